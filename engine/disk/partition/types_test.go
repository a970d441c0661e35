package partition

import (
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/internal/guid"
)

// TestTheTableOfTypes makes sure that each line of types.txt is one.
func TestTheTableOfTypes(t *testing.T) {
	all := types()
	if len(all) != 151 {
		t.Errorf("%d types", len(all))
	}
	for _, k := range all {
		if _, err := guid.Parse(k.guid); err != nil && k.guid != "" {
			t.Errorf("%s: %v", k.name, err)
		}
		n, err := strconv.ParseUint(k.mbr, 0, 8)
		if k.mbr != "" && (err != nil || codeText(byte(n)) != k.mbr) || k.mbr == "" && k.guid == "" {
			t.Errorf("%s: MBR code %q, GUID %q", k.name, k.mbr, k.guid)
		}
	}
	for code, want := range map[string]string{"0x83": "linux", "0x05": "extended", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "data", "0x01": ""} {
		if got := typeName(code); got != want {
			t.Errorf("%s is called %q, want %q", code, got, want)
		}
	}
}

// TestTypesOfDiscoverablePartitions compares the names with those of systemd, which
// has the same without "linux-" before.
func TestTypesOfDiscoverablePartitions(t *testing.T) {
	out, err := exec.Command("systemd-id128", "show", "-u").Output()
	if err != nil {
		t.Skip("systemd-id128 is not there (Debian package systemd)")
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 2 || f[0] == "NAME" || f[0] == "linux-generic" || strings.Contains(f[0], "secondary") ||
			slices.Contains([]string{"root", "usr"}, strings.TrimSuffix(strings.TrimSuffix(f[0], "-sig"), "-verity")) {
			continue // those of the architecture that it runs on
		}
		seen++
		code, err := typeCode("gpt", f[0])
		if err != nil {
			code, err = typeCode("gpt", "linux-"+f[0])
		}
		if err != nil || code != f[1] {
			t.Errorf("%s is %s, systemd has %s (%v)", f[0], code, f[1], err)
		}
	}
	if seen < 100 {
		t.Errorf("systemd lists %d types", seen)
	}
}

func TestAttributes(t *testing.T) {
	bits, err := Attributes([]string{"read-only", "48", "no-auto"})
	if err != nil || bits != 1<<60|1<<48|1<<63 {
		t.Errorf("%x, %v", bits, err)
	}
	if names := AttributeNames(bits); !slices.Equal(names, []string{"read-only", "no-auto", "48"}) {
		t.Errorf("%q", names)
	}
	_, err = Attributes([]string{"readonly"})
	if want := `unknown attribute "readonly" (have required, no-block-io, legacy-boot, grow-fs, read-only, no-auto, or the number of a bit): did you mean "read-only"?`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
