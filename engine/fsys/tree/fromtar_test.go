package tree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestADamagedStreamIsNoArchive changes one bit of a file in a tar that is compressed: only
// the checksum behind the archive's end tells.
func TestADamagedStreamIsNoArchive(t *testing.T) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	w.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 4096, Mode: 0o644})
	w.Write(make([]byte, 4096))
	w.Close()
	z.Close()
	packed := b.Bytes()
	packed[len(packed)/2] ^= 1
	path := filepath.Join(t.TempDir(), "a.tar.gz")
	if err := os.WriteFile(path, packed, 0o600); err != nil {
		t.Fatal(err)
	}
	c := FromTarFile(path)
	defer c.Close()
	if _, err := c.Load(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("got %v", err)
	}
}

// FuzzTar reads damaged archives: errors, no panics, and no path out of the tree.
func FuzzTar(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.x": "y"}})
	w.Write([]byte("abc"))
	w.WriteHeader(&tar.Header{Name: "a/c", Typeflag: tar.TypeLink, Linkname: "a/b"})
	w.WriteHeader(&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "a"})
	w.WriteHeader(&tar.Header{Name: "n", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3})
	w.Close()
	f.Add(b.Bytes())
	f.Add([]byte{0x1f, 0x8b, 8})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		c := &tarContent{}
		defer c.Close()
		x := c.newIndex(ctx, dir)
		if err := x.spool(bytes.NewReader(b)); err != nil {
			return
		}
		_ = x.tree.Walk(func(p string, n *Inode) error {
			if strings.Contains(p, "/../") || n.Links == 0 {
				t.Fatalf("entry %q with %d links", p, n.Links)
			}
			return nil
		})
	})
}
