package partition

import (
	"fmt"
	"strconv"
	"strings"

	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/near"
)

// knownType is a type with a name of its own. Either code may be missing.
type knownType struct {
	name, guid string
	mbr        byte
}

// types are the types known by name. The GUIDs are those of the UEFI
// and Discoverable Partitions specifications. For a code that several names
// share, the first is the one that is shown.
var types = []knownType{
	{"linux", "0fc63daf-8483-4772-8e79-3d69d8477de4", 0x83},
	{"linux-root-x86-64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", 0x83},
	{"linux-root-x86", "44479540-f297-41b2-9af7-d131d5f0458a", 0x83},
	{"linux-root-arm64", "b921b045-1df0-41c3-af44-4c6f280d3fae", 0x83},
	{"linux-root-arm", "69dad710-2ce4-4e3c-b16c-21a1d49abed3", 0x83},
	{"linux-root-riscv64", "72ec70a6-cf74-40e6-bd49-4bda08e8f224", 0x83},
	{"linux-usr-x86-64", "8484680c-9521-48c6-9c11-b0720656f69e", 0x83},
	{"linux-home", "933ac7e1-2eb4-4f13-b844-0e14e2aef915", 0x83},
	{"linux-srv", "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", 0x83},
	{"linux-var", "4d21b016-b534-45c2-a9fb-5c16e091fd2d", 0x83},
	{"linux-tmp", "7ec6f557-3bc5-4aca-b293-16ef5df639d1", 0x83},
	{"linux-boot", "bc13c2ff-59e6-4262-a352-b275fd6f7172", 0xea},
	{"swap", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", 0x82},
	{"lvm", "e6d6d379-f507-44c2-a23c-238f2a3df928", 0x8e},
	{"raid", "a19d880f-05fc-4d3b-a006-743f0f84911e", 0xfd},
	{"luks", "ca7d7ccb-63ed-4c53-861c-1742536059cc", 0xe8},
	{"efi", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", 0xef},
	{"bios-boot", "21686148-6449-6e6f-744e-656564454649", 0},
	{"data", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0x0c},
	{"fat32", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0x0c},
	{"fat16", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0x0e},
	{"ntfs", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0x07},
	{"microsoft-reserved", "e3c9e316-0b5c-4db8-817d-f92df00215ae", 0},
	{"prep", "9e1a2d38-c612-4316-aa26-8b49521e5a8b", 0x41},
	{"extended", "", 0x0f},
	{"extended", "", 0x05},
	{"protective", "", 0xee},
}

// typeName returns the name of a code, or nothing.
func typeName(code string) string {
	for _, t := range types {
		if t.guid != "" && t.guid == code || t.mbr != 0 && codeText(t.mbr) == code {
			return t.name
		}
	}
	return ""
}

func codeText(code byte) string { return fmt.Sprintf("0x%02x", code) }

// typeCode returns the code for a type given by name, as a GUID or as a number.
func typeCode(kind, s string) (string, error) {
	var names []string
	for _, t := range types {
		code := t.guid
		if kind == "mbr" && t.mbr != 0 {
			code = codeText(t.mbr)
		} else if kind == "mbr" {
			code = ""
		}
		if t.name == s && code != "" {
			return code, nil
		}
		if t.name == s && t.name != "extended" {
			return "", fmt.Errorf("partition type %q does not exist for %s", s, kind)
		}
		if code != "" && t.guid != "" { // what only an MBR has is made, not asked for
			names = append(names, t.name)
		}
	}
	if kind == "gpt" {
		if _, err := guid.Parse(s); err == nil {
			return strings.ToLower(s), nil
		}
	} else if n, err := strconv.ParseUint(s, 0, 8); err == nil && n > 0 {
		return codeText(byte(n)), nil
	}
	other := "a GUID"
	if kind == "mbr" {
		other = "a number such as 0x83"
	}
	return "", fmt.Errorf("unknown partition type %q for %s (have %s, or %s)%s", s, kind, strings.Join(names, ", "), other, near.Hint(s, names))
}
