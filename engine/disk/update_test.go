package disk

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
)

func TestUpdateLeavesTheOldImageOrTheNewOne(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "disk.raw"), filepath.Join(dir, "link")
	old := bytes.Repeat([]byte("old "), 4096)
	if err := errors.Join(os.WriteFile(path, old, 0o640), os.Chmod(path, 0o640), os.Symlink("disk.raw", link)); err != nil {
		t.Fatal(err)
	}
	spoil := func(_ context.Context, work string) error {
		if work == path {
			t.Error("the image itself is changed")
		}
		return errors.Join(os.WriteFile(work, []byte("half"), 0), &os.PathError{Op: "write", Path: work, Err: os.ErrClosed})
	}
	err := Update(t.Context(), link, nil, spoil)
	if data, rerr := os.ReadFile(path); !errors.Is(err, os.ErrClosed) || strings.Contains(err.Error(), "/proc/") || rerr != nil || !bytes.Equal(data, old) {
		t.Errorf("after an error: %v, the image has %d bytes, %v", err, len(data), rerr)
	}
	put := func(_ context.Context, work string) error { return os.WriteFile(work, []byte("new"), 0) }
	if err := Update(t.Context(), link, nil, put); err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if data, rerr := os.ReadFile(path); err != nil || rerr != nil || string(data) != "new" || st.Mode() != 0o640 {
		t.Errorf("the new image is %q with %v, %v %v", data, st.Mode(), err, rerr)
	}
	if target, err := os.Readlink(link); err != nil || target != "disk.raw" {
		t.Errorf("the link leads to %q, %v", target, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// What is flushed before an image has its name, and that the name is.
func TestConvertAndUpdateFlush(t *testing.T) {
	if what := os.Getenv("B9_FLUSHES"); what != "" {
		src := filepath.Join(filepath.Dir(what), "src.raw")
		if err := os.WriteFile(src, []byte("content"), 0o644); err != nil {
			t.Fatal(err)
		}
		img, err := Open(src, "raw", OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer img.Close()
		if err := Convert(t.Context(), img, what, "raw", image.WriteOptions{Sync: true}); err != nil {
			t.Fatal(err)
		}
		if err := Update(t.Context(), what, nil, func(context.Context, string) error { return nil }); err != nil {
			t.Fatal(err)
		}
		return
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("no strace (Debian package strace)")
	}
	dir := t.TempDir()
	traced := filepath.Join(dir, "calls")
	cmd := exec.Command("strace", "-f", "-o", traced, "-e", "trace=fsync,rename,renameat,renameat2,linkat", os.Args[0], "-test.run=^TestConvertAndUpdateFlush$")
	cmd.Env = append(os.Environ(), "B9_FLUSHES="+filepath.Join(dir, "dst.raw"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text, err := os.ReadFile(traced)
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, ok := strings.Cut(strings.TrimSpace(call), "(")
		if ok && (name == "fsync" || strings.Contains(line, "/dst.raw\"")) {
			calls = append(calls, strings.TrimSuffix(strings.TrimSuffix(name, "at2"), "at"))
		}
	}
	if want := []string{"fsync", "link", "fsync", "fsync", "link", "rename", "fsync"}; !slices.Equal(calls, want) {
		t.Errorf("the calls are %q, want %q", calls, want)
	}
}
