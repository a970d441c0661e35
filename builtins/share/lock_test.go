package share

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const testDigest = "b3:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestLock(t *testing.T) {
	root := t.TempDir()
	base := Locked{Name: "base", Repository: "team", Version: "1", Digest: testDigest, Format: "raw"}
	pinned := base
	pinned.Want, pinned.Format = "1", "qcow2"
	moved := base
	moved.Version = "2"
	for _, entries := range [][]Locked{{pinned}, {base}, {moved}} {
		if err := writeLock(t.Context(), root, nil, entries...); err != nil {
			t.Fatal(err)
		}
	}
	got, err := readLock(root)
	if err != nil || len(got) != 2 || got[0] != moved || got[1] != pinned {
		t.Errorf("got %+v, %v", got, err)
	}
	names, err := os.ReadDir(root)
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// Processes that write at once lose nothing of each other.
func TestLockTogether(t *testing.T) {
	const inProcess = "B9_TEST_LOCK"
	const writers, each = 4, 20
	if who := os.Getenv(inProcess); who != "" {
		for i := range each {
			l := Locked{Name: fmt.Sprintf("image-%s-%d", who, i), Repository: "team", Version: "1", Digest: testDigest, Format: "raw"}
			if err := writeLock(t.Context(), os.Getenv("B9_TEST_ROOT"), nil, l); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	root := t.TempDir()
	var running []*exec.Cmd
	for w := range writers {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLockTogether$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", inProcess, w), "B9_TEST_ROOT="+root)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if all, err := readLock(root); err != nil || len(all) != writers*each {
		t.Errorf("%d of %d entries are left, %v", len(all), writers*each, err)
	}
}

// Who comes second takes the answer of the first.
func TestLockFirstWins(t *testing.T) {
	root := t.TempDir()
	first := Locked{Name: "base", Repository: "team", Version: "1", Digest: testDigest, Format: "raw"}
	second := first
	second.Version = "2"
	for _, l := range []Locked{first, second} {
		if got, err := addLock(t.Context(), root, nil, l); err != nil || got != first {
			t.Errorf("got %+v, %v", got, err)
		}
	}
}

func TestLockMistakes(t *testing.T) {
	root := t.TempDir()
	for text, want := range map[string]string{
		"image = 1":   "b9.lock:1:",
		"[[image]\n":  "b9.lock:1:8: ",
		"# a\n# \x00": "b9.lock:2:3: a NUL byte",
		"# \xe9":      "b9.lock:1:3: the byte 0xE9 is not UTF-8",
		"\ufeff# a":   "b9.lock:1:1: a byte-order mark",
		"<<<<<<< ours\n=======\n>>>>>>> theirs\n": "has the marks of a merge: keep one side",

		"[[image]]\nname = \"a\"\nversion = \"1\"\ndigest = \"x\"\n":                          `b9.lock: image "a": digest "x"`,
		"[[image]]\nname = \"a/b\"\nversion = \"1\"\ndigest = \"" + testDigest + "\"\n":       `name "a/b"`,
		"[[image]]\nname = \"a\"\nversion = \"1\"\nmore = 1\ndigest = \"" + testDigest + "\"": `b9.lock:4:1: unknown key "image.more"`,
	} {
		if err := os.WriteFile(filepath.Join(root, LockFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readLock(root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestLockIsAPipe: to read one that came with a checkout would wait for ever.
func TestLockIsAPipe(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(root, LockFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readLock(root); err == nil || !strings.Contains(err.Error(), "is not a regular file but a pipe") {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(filepath.Join(root, LockFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, LockFile), make([]byte, maxLock+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readLock(root); err == nil || !strings.Contains(err.Error(), "is larger than") {
		t.Errorf("got %v", err)
	}
}

func FuzzLock(f *testing.F) {
	f.Add([]byte("[[image]]\nname = \"a\"\nversion = \"1\"\nformat = \"raw\"\nrepository = \"r\"\ndigest = \"" + testDigest + "\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parseLock(data)
		if err != nil || len(entries) == 0 {
			return
		}
		root := t.TempDir()
		if err := writeLock(t.Context(), root, nil, entries[0]); err != nil {
			t.Fatal(err)
		}
		if again, err := readLock(root); err != nil || len(again) != 1 || again[0] != entries[0] {
			t.Errorf("wrote %+v, read %+v, %v", entries[0], again, err)
		}
	})
}
