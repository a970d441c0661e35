package b9_test

import (
	"os"
	"path/filepath"
	"testing"

	"b9/engine/repo"
	"b9/engine/store"
)

// TestOneDigest holds repositories and the store to one definition of a
// file's digest: what a shared image's version says is what the store calls it.
func TestOneDigest(t *testing.T) {
	for _, size := range []int64{0, 1, 4096, 64 << 10, 64<<10 + 1, 5<<20 + 77} {
		path := filepath.Join(t.TempDir(), "file")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for off := int64(0); off < size; off += 200_000 {
			f.WriteAt([]byte("data")[:min(4, size-off)], off)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		f.Close()
		shared, n, err := repo.HashFile(t.Context(), path)
		if err != nil || n != size {
			t.Fatalf("%d bytes: %d, %v", size, n, err)
		}
		stored, _, err := store.HashFile(t.Context(), path)
		if err != nil || store.Digest(shared) != stored || shared.String() != stored.String() {
			t.Errorf("%d bytes: %s in a repository, %s in the store, %v", size, shared, stored, err)
		}
	}
}
