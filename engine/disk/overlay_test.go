package disk

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
)

func TestOverlayStandsOnItsBacking(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("no qemu-img (Debian package qemu-utils)")
	}
	dir := t.TempDir()
	base, over := filepath.Join(dir, "base.raw"), filepath.Join(dir, "over.qcow2")
	size := int64(64 << 20)
	if err := Overlay(context.Background(), over, size, image.Backing{Path: "base.raw", Format: "raw"}, false); err != nil {
		t.Fatal(err)
	}
	script := `head -c 1000000 /dev/urandom > "$1" && truncate -s 64M "$1" && qemu-img check "$2" && qemu-img compare "$1" "$2" && qemu-img info "$2"`
	out, err := exec.Command("sh", "-ec", script, "sh", base, over).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Images are identical", "backing file: base.raw", "backing file format: raw"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("qemu-img does not say %q:\n%s", want, out)
		}
	}
}

func TestOverlayRefusesAnUnusableName(t *testing.T) {
	for _, b := range []image.Backing{{Path: "", Format: "raw"}, {Path: "x"}, {Path: strings.Repeat("x", 1024), Format: "raw"}} {
		if err := Overlay(context.Background(), filepath.Join(t.TempDir(), "o"), 1<<20, b, false); err == nil {
			t.Errorf("%.10q, %q: no error", b.Path, b.Format)
		}
	}
}
