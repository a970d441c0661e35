package ext4_test

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/tool"
)

// journaled makes an image whose file a holds "old", and "new" once the journal is
// replayed, which debugfs wrote with checksums of the given version.
func journaled(t *testing.T, version string) []byte {
	t.Helper()
	dir := t.TempDir()
	img := filepath.Join(dir, "img")
	old, fresh := bytes.Repeat([]byte("old "), 256), bytes.Repeat([]byte("new "), 256)
	fsystest.Write(t, filepath.Join(dir, "src/a"), string(old))
	fsystest.Write(t, filepath.Join(dir, "fresh"), string(fresh))
	fsystest.Run(t, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-d", filepath.Join(dir, "src"), img, "8M")
	block := strings.TrimSpace(lastLine(fsystest.Run(t, "debugfs", "-R", "blocks /a", img)))
	debugfs, err := tool.Find("debugfs")
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(debugfs, "-w", "-f", "-", img)
	cmd.Stdin = strings.NewReader("jo -c -v " + version + "\njw -b " + block + " " + filepath.Join(dir, "fresh") + "\njc\n")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("while")) {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	b, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// journalBlock finds the journal's block of a type after its superblock.
func journalBlock(t *testing.T, b []byte, kind byte) int {
	t.Helper()
	for at := 0; at+1024 <= len(b); at += 1024 {
		if binary.BigEndian.Uint32(b[at:]) == 0xc03b3998 && b[at+7] == kind {
			return at
		}
	}
	t.Fatalf("the journal has no block of type %d", kind)
	return 0
}

// TestJournalChecksums damages journals: what is complete has to be right, and
// what is not complete is as if it were not there.
func TestJournalChecksums(t *testing.T) {
	fsystest.Need(t, "mke2fs", "debugfs")
	for _, version := range []string{"2", "3"} {
		good := journaled(t, version)
		for _, c := range []struct {
			name, want string // content of a, or error
			change     func(b []byte)
		}{
			{"nothing", "new ", func([]byte) {}},
			{"superblock", "the checksum of the journal's superblock", func(b []byte) { b[journalBlock(t, b, 4)+0x54]++ }},
			{"descriptor", "a checksum of the journal's transaction", func(b []byte) { b[journalBlock(t, b, 1)+900]++ }},
			{"data", "the checksum of block", func(b []byte) { b[bytes.Index(b, []byte("new new "))+5]++ }},
			{"commit", "old ", func(b []byte) { b[journalBlock(t, b, 2)+60]++ }},
			{"descriptor of what is not complete", "old ", func(b []byte) {
				b[journalBlock(t, b, 1)+900]++
				clear(b[journalBlock(t, b, 2):][:12])
			}},
		} {
			b := bytes.Clone(good)
			c.change(b)
			r, err := fsys.NewReader(bytes.NewReader(b), int64(len(b)))
			var got []byte
			if err == nil {
				got, err = fs.ReadFile(r, "a")
			}
			switch {
			case len(c.want) > 4:
				fsystest.WantError(t, err, c.want)
			case err != nil || !bytes.Equal(got, bytes.Repeat([]byte(c.want), 256)):
				t.Errorf("version %s, %s: %.8q, %v, want %q", version, c.name, got, err, c.want)
			}
		}
	}
}
