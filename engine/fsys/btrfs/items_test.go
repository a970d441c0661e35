package btrfs

import (
	"bytes"
	"io/fs"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

// oneHash are names of n bytes that have one hash: they differ by multiples of the
// polynomial of CRC-32C, which are 33 bits each.
func oneHash(t *testing.T, n, count int) (names []string) {
	const polynomial = 1 | 0x82f63b78<<1
	for i := range count {
		name := []byte(strings.Repeat("P", n))
		for bit := range 10 {
			for j := range 5 {
				name[n-5*bit-5+j] ^= byte(uint64(polynomial) >> (8 * j) * uint64(i>>bit&1))
			}
		}
		if names = append(names, string(name)); hashName(names[i]) != hashName(names[0]) || bytes.ContainsAny(name, "/\x00") {
			t.Fatalf("%q has another hash than %q", names[i], names[0])
		}
	}
	return names
}

// TestOneHash: names of one hash share an item, which must fit into a leaf.
func TestOneHash(t *testing.T) {
	const most = (leafRoom - itemSize) / (30 + 255)
	var files []tree.File
	for _, name := range oneHash(t, 255, most+1) {
		files = append(files, tree.File{Path: "dir/" + name})
	}
	list, err := fs.ReadDir(makeImage(t, Options{}, files[:most]...).files(), "dir")
	if err != nil || len(list) != most {
		t.Errorf("%d entries, %v", len(list), err)
	}
	long := strings.Repeat("v", 9000)
	names := oneHash(t, 100, 2)
	for want, files := range map[string][]tree.File{
		"/dir: it has more entries whose names have one hash than btrfs holds in an item of 16258 bytes": files,
		"/f: it has more attributes whose names have one hash":                                           {{Path: "f", Xattrs: map[string]string{"user." + names[0]: long, "user." + names[1]: long}}},
	} {
		path := t.TempDir() + "/img"
		fsystest.WantError(t, Make(t.Context(), path, Options{}, tree.FromFiles(files, time.Time{})), want)
		fsystest.Gone(t, path)
	}
}
