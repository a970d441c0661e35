package repo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// qemuImg runs qemu-img.
func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal("no qemu-img: install the Debian package qemu-utils")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q: %v: %s", args, err, out)
	}
}

func TestPushRelations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := site{dir: dir + "/repo", loc: Location{Path: dir + "/repo"}}.create(t)
	base, alone, overlay := filepath.Join(dir, "base"), filepath.Join(dir, "alone"), filepath.Join(dir, "overlay")
	qemuImg(t, "create", "-q", "-f", "raw", base, "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", alone, "1M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
	if _, _, err := r.Push(t.Context(), PushSpec{Name: "alone", Path: alone, Format: "qcow2"}); err != nil {
		t.Error(err)
	}
	_, _, err := r.Push(t.Context(), PushSpec{Name: "overlay", Path: overlay, Format: "qcow2"})
	if err == nil || !strings.Contains(err.Error(), `needs the backing file "`+base+`"`) {
		t.Errorf("an overlay alone: %v", err)
	}
	if _, _, err := r.Push(t.Context(), PushSpec{Name: "raw", Path: overlay, Format: "raw"}); err != nil {
		t.Errorf("what is said to be raw is raw: %v", err)
	}
	v, _, err := r.Push(t.Context(), PushSpec{Name: "copy", Path: alone, Format: "qcow2", Parent: "base@1", Key: "b3:key"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := r.List(t.Context(), "copy")
	if err != nil || len(list) != 1 || list[0].Parent != "base@1" || list[0].Key != "b3:key" || list[0].Ref() != v.Ref() {
		t.Errorf("%+v, %v", list, err)
	}
	for want, s := range map[string]PushSpec{
		`parent "base"`: {Parent: "base"}, `parent "a@b@c"`: {Parent: "a@b@c"},
	} {
		s.Name, s.Path = "web", base
		if _, _, err := r.Push(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func FuzzQcow2Backing(f *testing.F) {
	head := append([]byte("QFI\xfb\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x14\x00\x00\x00\x04"), "base"...)
	f.Add(head)
	f.Add(head[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		name, err := qcow2Backing(path)
		if err != nil || len(name) > 1023 || !strings.HasPrefix(string(b), "QFI\xfb") && name != "" {
			t.Fatalf("%q, %v", name, err)
		}
	})
}
