package partition

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"b9.build/b9/engine/disk/internal/guid"
	"b9.build/b9/engine/near"
)

// knownType is a type with a name of its own. Either code may be empty.
type knownType struct{ name, guid, mbr string }

//go:embed types.txt
var typesText string

// types returns the types known by name. For a code that several names share, the
// first is the one that is shown.
var types = sync.OnceValue(func() (all []knownType) {
	for line := range strings.Lines(typesText) {
		if f := strings.Fields(line); len(f) == 3 && f[0] != "#" {
			all = append(all, knownType{f[0], strings.TrimPrefix(f[1], "-"), strings.TrimPrefix(f[2], "-")})
		}
	}
	return all
})

// typeName returns the name of a code, or nothing.
func typeName(code string) string {
	for _, t := range types() {
		if code == t.guid || code == t.mbr {
			return t.name
		}
	}
	return ""
}

// attributes are the bits of a GPT entry that have a name: those of every partition
// (UEFI specification 2.10, table 5.8), and those of discoverable ones.
var attributes = []struct {
	name string
	bit  int
}{{"required", 0}, {"no-block-io", 1}, {"legacy-boot", 2}, {"grow-fs", 59}, {"read-only", 60}, {"no-auto", 63}}

// Attributes returns the bits for names such as "read-only", or numbers of bits from 0
// to 63.
func Attributes(names []string) (bits uint64, err error) {
	var known []string
	for _, a := range attributes {
		known = append(known, a.name)
	}
	for _, name := range names {
		if i := slices.Index(known, name); i >= 0 {
			bits |= 1 << attributes[i].bit
		} else if n, err := strconv.ParseUint(name, 10, 8); err == nil && n < 64 {
			bits |= 1 << n
		} else {
			return 0, fmt.Errorf("unknown attribute %q (have %s, or the number of a bit)%s", name, strings.Join(known, ", "), near.Hint(name, known))
		}
	}
	return bits, nil
}

// AttributeNames is the reverse of Attributes.
func AttributeNames(bits uint64) (names []string) {
	for _, a := range attributes {
		if bits&(1<<a.bit) != 0 {
			names, bits = append(names, a.name), bits&^(1<<a.bit)
		}
	}
	for n := range 64 {
		if bits&(1<<n) != 0 {
			names = append(names, strconv.Itoa(n))
		}
	}
	return names
}

func codeText(code byte) string { return fmt.Sprintf("0x%02x", code) }

// typeCode returns the code for a type given by name, as a GUID or as a number.
func typeCode(kind, s string) (string, error) {
	var names, shown []string // those of each architecture are many
	for _, t := range types() {
		code := t.guid
		if kind == "mbr" {
			code = t.mbr
		}
		if t.name == s && code != "" {
			return code, nil
		}
		if t.name == s && t.name != "extended" {
			return "", fmt.Errorf("partition type %q does not exist for %s", s, kind)
		}
		if code != "" && t.guid != "" { // what only an MBR has is made, not asked for
			names = append(names, t.name)
			if !strings.HasPrefix(t.name, "linux-root-") && !strings.HasPrefix(t.name, "linux-usr-") {
				shown = append(shown, t.name)
			}
		}
	}
	shown = append(shown, "linux-root-ARCH", "linux-usr-ARCH")
	if kind == "gpt" {
		if _, err := guid.Parse(s); err == nil {
			return strings.ToLower(s), nil
		}
	} else if n, err := strconv.ParseUint(s, 0, 8); err == nil && n > 0 {
		return codeText(byte(n)), nil
	}
	other := "the latter two with -verity or -verity-sig, such as linux-root-x86-64-verity, or a GUID"
	if kind == "mbr" {
		other = "such as linux-root-x86-64, or a number such as 0x83"
	}
	return "", fmt.Errorf("unknown partition type %q for %s (have %s, %s)%s", s, kind, strings.Join(shown, ", "), other, near.Hint(s, names))
}
