package partition

import (
	_ "embed"
	"fmt"
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

func codeText(code byte) string { return fmt.Sprintf("0x%02x", code) }

// typeCode returns the code for a type given by name, as a GUID or as a number.
func typeCode(kind, s string) (string, error) {
	var names []string
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
