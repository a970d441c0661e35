package repo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
)

// TestIrregularFiles puts what is no file in the place of a repository's files. Nobody waits
// for that: the time-out is an hour here.
func TestIrregularFiles(t *testing.T) {
	types := map[string]func(path string) error{
		"pipe":     func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"endless":  func(path string) error { return os.Symlink("/dev/zero", path) },
		"terminal": func(path string) error { return os.Symlink("/dev/ptmx", path) },
	}
	says := regexp.MustCompile(`no regular file|not a regular file|a line has more than|the server says no more|damaged|not in|mismatch|missing`)
	each(t, func(t *testing.T, s site) {
		s.opts.Timeout = time.Hour
		r := s.create(t)
		v, _ := push(t, r, "web", sample(t, 1, 300))
		for kind, plant := range types {
			for _, path := range []string{filepath.Join(s.dir, logName), files(t, s, "packs")[0], files(t, s, "manifests")[0]} {
				kept := filepath.Join(t.TempDir(), "kept")
				if err := errors.Join(os.Rename(path, kept), plant(path)); err != nil {
					t.Fatal(err)
				}
				s.opts.State = t.TempDir() // nothing is known of the repository
				err := pullFresh(t.Context(), s, v, filepath.Join(t.TempDir(), "pulled"))
				if err == nil || !says.MatchString(err.Error()) {
					t.Errorf("a %s in place of %s: %v", kind, path, err)
				}
				if err := errors.Join(os.Remove(path), os.Rename(kept, path)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func pullFresh(ctx context.Context, s site, v Version, dst string) error {
	r, err := Open(ctx, s.loc, s.opts)
	if err != nil {
		return err
	}
	_, err = r.Pull(ctx, v, dst, PullOptions{})
	return errors.Join(err, r.Close())
}

// TestAppendToAPipe is what a push would wait in.
func TestAppendToAPipe(t *testing.T) {
	s := site{dir: filepath.Join(t.TempDir(), "repo")}
	s.loc = Location{Path: s.dir}
	r := s.create(t)
	log := filepath.Join(s.dir, logName)
	if err := errors.Join(os.Remove(log), syscall.Mkfifo(log, 0o644)); err != nil {
		t.Fatal(err)
	}
	if err := r.appendLog(t.Context(), line{Op: opRemove}); err == nil {
		t.Error("a line went into a pipe")
	}
}

func TestOpenToAll(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		for name, want := range map[string]bool{"": true, logName: true, "packs": true, "manifests": true, "tmp": false} {
			path := filepath.Join(s.dir, name)
			st, err := os.Stat(path)
			if err == nil {
				err = os.Chmod(path, st.Mode().Perm()|0o002)
			}
			if err != nil {
				t.Fatal(err)
			}
			if open, err := r.OpenToAll(t.Context()); err != nil || open != want {
				t.Errorf("%q can be written by all: told %v, %v", name, open, err)
			}
			if err := os.Chmod(path, st.Mode().Perm()&^0o002); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestCheckGoesOn puts what is no file in the place of what one version needs: that version is
// hurt, and the other is checked.
func TestCheckGoesOn(t *testing.T) {
	types := map[string]func(path string) error{
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o644) },
		"endless":   func(path string) error { return os.Symlink("/dev/zero", path) },
		"terminal":  func(path string) error { return os.Symlink("/dev/ptmx", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"socket":    func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o644, 0) },
		"dangling":  func(path string) error { return os.Symlink("nowhere", path) },
		"circle":    func(path string) error { return os.Symlink(filepath.Base(path), path) },
	}
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		a, _ := push(t, r, "a", sample(t, 1, 300))
		first := files(t, s, "manifests")
		push(t, r, "b", sample(t, 2, 300))
		damaged := first[0]
		if err := os.Truncate(files(t, s, "manifests")[1-slices.Index(files(t, s, "manifests"), damaged)], 3); err != nil {
			t.Fatal(err)
		}
		pack := onlyPack(t, s, r, a)
		for kind, plant := range types {
			for _, path := range []string{damaged, pack} {
				kept := filepath.Join(t.TempDir(), "kept")
				if err := errors.Join(os.Rename(path, kept), plant(path)); err != nil {
					t.Fatal(err)
				}
				for _, deep := range []bool{false, true} {
					found, err := s.elsewhere(t).Check(t.Context(), deep)
					var hurt []string
					for _, d := range found {
						hurt = append(hurt, d.Hurts...)
					}
					slices.Sort(hurt)
					if err != nil || len(found) != 2 || len(hurt) != 2 || hurt[0] != a.Ref() {
						t.Errorf("a %s in place of %s, deep %v: %+v, %v", kind, path, deep, found, err)
					}
				}
				if err := errors.Join(os.Remove(path), os.Rename(kept, path)); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// onlyPack is where the only pack of a version lies.
func onlyPack(t *testing.T, s site, r *Repo, v Version) string {
	t.Helper()
	var ref recipeRef
	r.withView(func(view *view) {
		for _, e := range view.live() {
			if e.who() == v.Ref() {
				ref = e.Recipe
			}
		}
	})
	m, err := r.manifestOf(t.Context(), ref)
	if err != nil || len(m.packs) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	return filepath.Join(s.dir, m.packs[0].path())
}

// denying is a repository of which this user may not read one file.
type denying struct {
	backend.Backend
	name string
	err  error
}

func (d denying) Open(ctx context.Context, name string) (backend.Reader, error) {
	if name == d.name {
		return nil, &os.PathError{Op: "open", Path: name, Err: d.err}
	}
	return d.Backend.Open(ctx, name)
}

// TestCheckOfWhatMayNotBeRead tells what can't be read from what is damaged: only that is
// there to be removed.
func TestCheckOfWhatMayNotBeRead(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		a, _ := push(t, r, "a", sample(t, 1, 300))
		path, err := filepath.Rel(s.dir, files(t, s, "manifests")[0])
		if err != nil {
			t.Fatal(err)
		}
		push(t, r, "b", sample(t, 2, 300))
		for why, unreadable := range map[error]bool{syscall.EACCES: true, syscall.EMFILE: true, syscall.EIO: false, ErrDamaged: false} {
			fresh := s.elsewhere(t)
			fresh.files = denying{fresh.files, path, why}
			found, err := fresh.Check(t.Context(), true)
			if err != nil || len(found) != 1 || found[0].Unreadable != unreadable || !slices.Equal(found[0].Hurts, []string{a.Ref()}) {
				t.Errorf("%v: %+v, %v", why, found, err)
			}
		}
	})
}
