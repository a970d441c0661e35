package share

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

func TestGoldenLock(t *testing.T) {
	root := t.TempDir()
	want := []Locked{
		{Name: "base", Repository: "local", Version: "1", Digest: (repo.Digest{}).String(), Format: "qcow2"},
		{Name: "base", Repository: "team's", Version: "20260102-030405-00112233", Digest: testDigest, Format: "raw"},
		{Name: "base", Repository: "team's", Want: "2", Version: "2", Digest: testDigest, Format: "vmdk"},
		{Name: "other", Repository: "team's", Want: testDigest, Version: "3", Digest: testDigest, Format: "raw"},
	}
	backwards := slices.Clone(want)
	slices.Reverse(backwards)
	if err := writeLock(t.Context(), root, nil, backwards...); err != nil {
		t.Fatal(err)
	}
	builtinstest.Golden(t, "b9.lock", filepath.Join(root, LockFile))
	if back, err := readLock(root); err != nil || !slices.Equal(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// goldenImage is a version in which everything is said.
func goldenImage() repo.Version {
	return repo.Version{
		Name: "web", Version: "1", Format: "raw", FileSystems: []string{"ext4"}, Key: testDigest, Parent: "base@1",
		Origin:  repo.Origin{User: "me", Host: "here", Label: "//:web", B9: "1.0", Source: "https://git.example/x", Commit: "0123"},
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Data: 4096,
	}
}

func TestGoldenLocalImages(t *testing.T) {
	l, st := openLocal(t)
	o := object(t, st, noise(8192, 1))
	v, err := l.Add(t.Context(), goldenImage(), o)
	if err != nil {
		t.Fatal(err)
	}
	least := repo.Version{Name: "base", Format: "qcow2", Created: v.Created, Data: 4096}
	first, err := l.Add(t.Context(), least, o, "1")
	if err != nil {
		t.Fatal(err)
	}
	builtinstest.Golden(t, "images.json", filepath.Join(LocalDir(st.Dir()), "images.json"))
	back, err := l.List(t.Context(), "")
	if err != nil || !reflect.DeepEqual(back, []repo.Version{first, v}) {
		t.Errorf("read back %+v, %v, want %+v and %+v", back, err, first, v)
	}
	// Its contents are named in the store like the results of a workspace.
	results := filepath.Join(st.Dir(), "results")
	list := filepath.Join(results, store.Sum([]byte(LocalDir(st.Dir()))).String()[3:])
	text, err := os.ReadFile(list)
	if err != nil || !bytes.HasSuffix(text, []byte("\n\"shared images\" file "+o.Digest.String()+"\n")) {
		t.Errorf("the store is told %q, %v", text, err)
	}
}

// TestGoldenImageIsWhole notices a field of a version that images.json lacks.
func TestGoldenImageIsWhole(t *testing.T) {
	v := goldenImage()
	v.Digest, v.Size = repo.Digest{1}, 1 // which Add sets
	for _, part := range []any{v, v.Origin} {
		value := reflect.ValueOf(part)
		for i := range value.NumField() {
			if value.Field(i).IsZero() {
				t.Errorf("goldenImage leaves out %s", value.Type().Field(i).Name)
			}
		}
	}
}
