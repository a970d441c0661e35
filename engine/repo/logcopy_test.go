package repo

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestKeptLog opens a repository whose log was read before, as it is, grown,
// cut off, and made anew in the same place.
func TestKeptLog(t *testing.T) {
	t.Parallel()
	s := kinds()[1].make(t)
	r := s.create(t)
	versions := 0
	publish := func(r *Repo, n int) {
		t.Helper()
		for range n {
			versions++
			v := Version{Name: "web", Version: fmt.Sprint(versions), Format: "raw"}
			if err := r.appendLog(t.Context(), line{Op: opImage, Image: &v, Recipe: recipeRef{newFileID([]byte(v.Version)), 1}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	list := func(most int64) {
		t.Helper()
		again, err := Open(t.Context(), s.loc, s.opts)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		_, received := again.files.Traffic()
		all, err := again.Listed(t.Context(), "web")
		if err != nil || len(all) != versions || versions > 0 && all[0].Version != fmt.Sprint(versions) {
			t.Errorf("%d versions instead of %d, %v", len(all), versions, err)
		}
		if received > most {
			t.Errorf("%d bytes came, more than %d", received, most)
		}
	}
	publish(r, 100)
	list(1 << 20)
	copies, err := filepath.Glob(filepath.Join(s.opts.State, "logs", "*"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("%v, %v", copies, err)
	}
	log := filepath.Join(s.dir, logName)
	if b, whole := unsealed(slurp(t, copies[0])); !whole || string(b) != string(slurp(t, log)) {
		t.Error("the copy is not the log")
	}
	const login = 8 << 10
	list(login + keptTail)
	publish(r, 3)
	list(login + 2*keptTail)
	whole := slurp(t, log)
	if err := os.Truncate(log, int64(len(whole)/2)); err != nil { // a backup, put back
		t.Fatal(err)
	}
	fresh, err := Open(t.Context(), s.loc, Options{SSH: s.opts.SSH})
	if err != nil {
		t.Fatal(err)
	}
	all, err := fresh.List(t.Context(), "web")
	if err != nil || len(all) == 0 || len(all) >= versions {
		t.Fatalf("%d versions, %v", len(all), err)
	}
	versions = len(all)
	list(1 << 20)
	publish(fresh, 100) // as long as the copy again, and different
	list(1 << 20)
	fresh.Close()
	r.Close()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), s.loc, s.opts); err == nil {
		t.Error("what is not there any more was opened")
	}
	r = s.create(t)
	versions = 0
	list(1 << 20)
	if err := os.WriteFile(copies[0], []byte("nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	publish(r, 30)
	list(1 << 20)
	r.Close()
}

// TestDamagedKeptLog loses a part of the copy, as a power failure may: what it
// told is read anew, and no version is missing.
func TestDamagedKeptLog(t *testing.T) {
	t.Parallel()
	s := kinds()[1].make(t)
	r := s.create(t)
	const versions = 100
	for n := range versions {
		v := Version{Name: "web", Version: fmt.Sprint(n), Format: "raw"}
		if err := r.appendLog(t.Context(), line{Op: opImage, Image: &v, Recipe: recipeRef{newFileID([]byte(v.Version)), 1}}); err != nil {
			t.Fatal(err)
		}
	}
	s.again(t)
	path := files(t, site{dir: s.opts.State}, "logs")[0]
	for name, damage := range map[string]func([]byte) []byte{
		"middle":    func(b []byte) []byte { clear(b[len(b)/3 : len(b)/2]); return b },
		"beginning": func(b []byte) []byte { clear(b[:1000]); return b },
		"end":       func(b []byte) []byte { clear(b[len(b)-1000:]); return b },
		"short":     func(b []byte) []byte { return b[:len(b)-10] },
		"empty":     func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, damage(slurp(t, path)), 0o644); err != nil {
				t.Fatal(err)
			}
			all, err := s.again(t).Listed(t.Context(), "web")
			if err != nil || len(all) != versions {
				t.Errorf("%d versions instead of %d, %v", len(all), versions, err)
			}
			if all, err = s.again(t).Listed(t.Context(), "web"); err != nil || len(all) != versions {
				t.Errorf("from the new copy: %d versions instead of %d, %v", len(all), versions, err)
			}
		})
	}
}
