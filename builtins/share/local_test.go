package share

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

func openLocal(t *testing.T) (*LocalImages, *store.Store) {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	l, err := OpenLocal(st)
	if err != nil {
		t.Fatal(err)
	}
	return l, st
}

// object puts random bytes into the store.
func object(t *testing.T, st *store.Store, data []byte) store.Object {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := st.Import(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func noise(size int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	data := make([]byte, size)
	rand.NewChaCha8(key).Read(data)
	return data
}

func TestLocalImages(t *testing.T) {
	l, st := openLocal(t)
	ctx := context.Background()
	one, two := object(t, st, noise(1<<20, 1)), object(t, st, noise(1<<20, 2))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	first, err := l.Add(t.Context(), repo.Version{Name: "base", Format: "raw", Created: at}, one)
	if err != nil || first.Version != "20260102-030405-"+one.Digest.String()[3:11] {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := l.Add(t.Context(), repo.Version{Name: "base", Format: "raw"}, one); err != nil || again.Version != first.Version {
		t.Errorf("the same image became %s, %v", again.Version, err)
	}
	if _, err := l.Add(t.Context(), repo.Version{Name: "base", Version: first.Version, Format: "raw"}, two); !errors.Is(err, repo.ErrVersionTaken) {
		t.Errorf("another image under a version that is taken: %v", err)
	}
	if _, err := l.Add(t.Context(), repo.Version{Name: "base", Version: "2", Format: "raw"}, two); err != nil {
		t.Fatal(err)
	}
	newest, err := l.Resolve(ctx, repo.Selector{Name: "base"})
	if err != nil || newest.Version != "2" || newest.Data != 1<<20 {
		t.Errorf("newest %+v, %v", newest, err)
	}
	if _, err := l.Resolve(ctx, repo.Selector{Name: "bsae"}); !errors.Is(err, repo.ErrNotFound) ||
		err.Error() != `shared image bsae is not in the repository of this machine (have base: did you mean "base"?)` {
		t.Errorf("a name that is not there: %v", err)
	}
	if older, err := l.Add(t.Context(), repo.Version{Name: "base", Version: "0", Format: "raw"}, one, "1", first.Version, "2"); err != nil {
		t.Errorf("%+v, %v", older, err)
	}
	if all, err := l.List(ctx, "base"); err != nil || len(all) != 3 || all[0].Version != "2" || all[2].Version != "0" {
		t.Errorf("an older version is not behind the newer ones: %+v, %v", all, err)
	}
	report, err := l.Clean(ctx, repo.CleanOptions{Keep: 2})
	if err != nil || len(report.Removed) != 1 || report.Removed[0].Version != "0" {
		t.Errorf("cleaned %+v, %v", report, err)
	}
}

// What is published stays in the store when everything else goes; what is no
// longer published goes, too.
func TestLocalImagesAreKept(t *testing.T) {
	l, st := openLocal(t)
	ctx := context.Background()
	kept, other := object(t, st, noise(1<<20, 1)), object(t, st, noise(1<<20, 2))
	v, err := l.Add(t.Context(), repo.Version{Name: "base", Format: "raw"}, kept)
	if err != nil {
		t.Fatal(err)
	}
	collect := func() {
		t.Helper()
		dir := st.Dir()
		st.Close() // what a live store used is spared
		if st, err = store.Open(dir, store.Options{NoSync: true}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		if l, err = OpenLocal(st); err != nil {
			t.Fatal(err)
		}
		if _, err := st.Collect(ctx, store.Policy{MaxSize: -1}); err != nil {
			t.Fatal(err)
		}
	}
	collect()
	if st.Has(other) || !st.Has(kept) {
		t.Errorf("collection left the other: %v, the shared image: %v", st.Has(other), st.Has(kept))
	}
	if damage, err := l.Check(ctx, true); err != nil || len(damage) != 0 {
		t.Errorf("damage %v, %v", damage, err)
	}
	if err := os.Remove(st.Path(kept.Digest)); err != nil {
		t.Fatal(err)
	}
	if damage, err := l.Check(ctx, false); err != nil || len(damage) != 1 || damage[0].Hurts[0] != "base@"+v.Version {
		t.Errorf("damage %v, %v", damage, err)
	}
	if err := l.Present(v); err == nil {
		t.Error("an image without content has a path")
	}
}

// A pull fetches nothing that any image on this machine has, whatever it is.
func TestPullUsesLocalImages(t *testing.T) {
	ctx := context.Background()
	remote, err := repo.Create(ctx, repo.Location{Path: filepath.Join(t.TempDir(), "r")}, repo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	old, extra := noise(4<<20, 1), noise(64<<10, 2)
	data := append(bytes.Clone(old), extra...)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	v, _, err := remote.Push(ctx, repo.PushSpec{Path: path, Name: "base", Format: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	l, st := openLocal(t)
	object(t, st, append(noise(8<<10, 3), old...)) // some step made it, and no list names it
	scratch, err := st.Scratch("test")
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Close()
	dst := filepath.Join(scratch.Dir(), "image")
	tr, err := l.Pull(ctx, remote, v, dst)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Reused != int64(len(old)) || tr.New != int64(len(extra)) {
		t.Errorf("reused %d and fetched %d bytes, want %d and %d", tr.Reused, tr.New, len(old), len(extra))
	}
	if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, data) {
		t.Errorf("another content, %v", err)
	}
	left, err := os.ReadDir(filepath.Join(st.Dir(), "cache", "pulls"))
	if err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestTrimPulls(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"new": time.Hour, "old": 2 * pullsAge, "used": 2 * pullsAge} {
		path, at := filepath.Join(dir, name), time.Now().Add(-age)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	used, err := store.LockFile(t.Context(), filepath.Join(dir, "used"), os.O_RDWR, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	if _, err := trimPulls(dir, pullsAge); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 2 || entries[0].Name() != "new" || entries[1].Name() != "used" {
		t.Errorf("left %v", entries)
	}
}

// Processes that publish at once, and die in between, lose nothing of each
// other.
func TestLocalImagesTogether(t *testing.T) {
	const inProcess = "B9_TEST_LOCAL"
	const writers, each = 3, 8
	if who := os.Getenv(inProcess); who != "" {
		st, err := store.Open(os.Getenv("B9_TEST_STORE"), store.Options{NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		l, err := OpenLocal(st)
		if err != nil {
			t.Fatal(err)
		}
		for i := range each {
			o := object(t, st, []byte(fmt.Sprint(who, i)))
			if _, err := l.Add(t.Context(), repo.Version{Name: "image-" + who, Version: fmt.Sprint(i), Format: "raw"}, o); err != nil {
				t.Fatal(err)
			}
		}
		if who == "dies" {
			os.Exit(0) // without giving anything up
		}
		return
	}
	l, st := openLocal(t)
	var running []*exec.Cmd
	for w := range writers {
		who := fmt.Sprint(w)
		if w == 0 {
			who = "dies"
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLocalImagesTogether$")
		cmd.Env = append(os.Environ(), inProcess+"="+who, "B9_TEST_STORE="+st.Dir(), "TMPDIR="+t.TempDir())
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
	all, err := l.List(t.Context(), "")
	if err != nil || len(all) != writers*each {
		t.Errorf("%d of %d versions are left, %v", len(all), writers*each, err)
	}
	if damage, err := l.Check(t.Context(), true); err != nil || len(damage) != 0 {
		t.Errorf("damage %v, %v", damage, err)
	}
}

// TestCheckWhileStamped checks contents that get another time meanwhile, as
// they do when a build uses them.
func TestCheckWhileStamped(t *testing.T) {
	l, st := openLocal(t)
	var paths []string
	for n := range 4 {
		o := object(t, st, noise(32<<20, uint64(n)))
		if _, err := l.Add(t.Context(), repo.Version{Name: fmt.Sprint("image", n), Format: "raw"}, o); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, st.Path(o.Digest))
	}
	done := make(chan struct{})
	var stamping sync.WaitGroup
	stamping.Go(func() {
		for at := time.Now(); ; at = at.Add(time.Millisecond) {
			select {
			case <-done:
				return
			default:
			}
			for _, path := range paths {
				if err := os.Chtimes(path, at, at); err != nil {
					t.Error(err)
				}
			}
		}
	})
	damage, err := l.Check(t.Context(), true)
	close(done)
	stamping.Wait()
	if err != nil || len(damage) != 0 {
		t.Errorf("%+v, %v", damage, err)
	}
}
