package partition

import (
	"strconv"
	"testing"

	"b9.build/b9/engine/disk/internal/guid"
)

// TestTheTableOfTypes makes sure that each line of types.txt is one.
func TestTheTableOfTypes(t *testing.T) {
	all := types()
	if len(all) != 27 {
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
