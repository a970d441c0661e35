package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFormatsThatAreNotRead are named, and taken for raw only if that is asked for.
func TestFormatsThatAreNotRead(t *testing.T) {
	for _, u := range unreadFormats() {
		for _, magic := range u.magic {
			data := make([]byte, 8192)
			at := u.at
			if at < 0 {
				at += int64(len(data))
			}
			copy(data[at:], magic)
			path := filepath.Join(t.TempDir(), "x.raw")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Detect(path)
			var unread *UnreadError
			if !errors.As(err, &unread) || unread.Format != u.name || unread.Way == "" {
				t.Errorf("%q: %v, want %s", magic, err, u.name)
			}
			img, err := Open(path, "raw", OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			img.Close()
			copy(data[at:], "\x7f")
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if f, err := Detect(path); f != "raw" || err != nil {
				t.Errorf("without %q: %s, %v", magic, f, err)
			}
		}
		for _, name := range u.names {
			if _, err := Lookup(name); err == nil || !strings.Contains(err.Error(), "neither reads nor writes") || Unread(name) == nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for _, f := range Formats() {
		if err := Unread(f.Name()); err != nil {
			t.Errorf("%s: %v", f.Name(), err)
		}
	}
	for _, size := range []int64{0, 1, 262, 511, 513} {
		path := filepath.Join(t.TempDir(), "short.raw")
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		if f, err := Detect(path); f != "raw" || err != nil {
			t.Errorf("%d bytes: %s, %v", size, f, err)
		}
	}
}

// TestImagesOfQEMUThatAreNotRead asks qemu-img for what it writes.
func TestImagesOfQEMUThatAreNotRead(t *testing.T) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip("qemu-img is not installed (Debian: qemu-utils)")
	}
	for format, want := range map[string]string{"qed": "a QED image", "parallels": "a Parallels image", "qcow": "a qcow image of version 1"} {
		path := filepath.Join(t.TempDir(), "x")
		if out, err := exec.Command("qemu-img", "create", "-q", "-f", format, path, "3M").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var unread *UnreadError
		if _, err := Detect(path); !errors.As(err, &unread) || unread.Format != want {
			t.Errorf("%s: %v", format, err)
		}
	}
	cowd := filepath.Join(t.TempDir(), "x.vmdk")
	if err := os.WriteFile(cowd, []byte("COWD\x01\x00\x00\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := Detect(cowd); f != "vmdk" || err != nil {
		t.Errorf("an extent of an old ESX server is %s, %v", f, err)
	}
}
