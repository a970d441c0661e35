package swap_test

import (
	"strings"
	"testing"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/swap"
)

// TestMake holds a swap area against what util-linux reads of it.
func TestMake(t *testing.T) {
	fsystest.Need(t, "swaplabel", "blkid")
	dir := t.TempDir()
	for name, o := range map[string]swap.Options{
		"plain": {Size: 64 << 20}, "least": {Size: 40 << 10}, "labelled": {Size: 1<<20 + 5, Label: "swap one", UUID: "6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55"},
	} {
		img := dir + "/" + name
		for range 2 {
			if err := swap.Make(t.Context(), img, o); err != nil {
				t.Fatal(err)
			}
		}
		info, err := fsys.Probe(img, 0, 0)
		if err != nil || info.Type != "swap" || info.Label != o.Label || info.Size != o.Size/4096*4096 {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		if got := strings.TrimSpace(fsystest.Run(t, "blkid", "-p", "-o", "value", "-s", "UUID", img)); got != info.UUID {
			t.Errorf("%s: blkid reads the UUID %s, Probe %s", name, got, info.UUID)
		}
		if out := fsystest.Run(t, "swaplabel", img); !strings.Contains(out, info.UUID) || !strings.Contains(out, o.Label) {
			t.Errorf("%s: swaplabel says %q", name, out)
		}
	}
	fsystest.WantError(t, swap.Make(t.Context(), dir+"/x", swap.Options{Size: 4096}), "below the least, 40KiB")
	fsystest.WantError(t, swap.Make(t.Context(), dir+"/x", swap.Options{Size: 1 << 20, Label: "sixteen letters."}), "swap holds 15")
	fsystest.Gone(t, dir+"/x")
}
