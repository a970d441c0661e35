package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
)

// failing is a tree in which, from the call numbered at on, everything fails.
type failing struct {
	*backend.Dir
	how  string
	at   int
	stop func() // called first

	mu    sync.Mutex
	calls int
}

var errPoint = errors.New("the line is dead")

// Ways in which the first call fails that does.
const (
	dead       = "dead"       // nothing is done
	unanswered = "unanswered" // it is done, and the answer is lost
	half       = "half"       // of what is written a part arrives
	cancelled  = "cancelled"  // the context ends, and nothing fails by itself
)

// pass runs one call. part does a part of it, if that is possible.
func (f *failing) pass(do, part func() error) error {
	f.mu.Lock()
	n := f.calls
	f.calls++
	f.mu.Unlock()
	if n == f.at && f.stop != nil {
		f.stop()
	}
	switch {
	case n < f.at || f.how == cancelled:
		return do()
	case n > f.at || f.how == dead:
		return errPoint
	case f.how == unanswered:
		return errors.Join(do(), errPoint)
	case part != nil:
		return errors.Join(part(), errPoint)
	}
	return errPoint
}

func (f *failing) failed() bool { return f.calls > f.at }

func (f *failing) Open(ctx context.Context, name string) (r backend.Reader, err error) {
	err = f.pass(func() (err error) { r, err = f.Dir.Open(ctx, name); return err }, nil)
	if err != nil && r != nil {
		r.Close()
	}
	return r, err
}

func (f *failing) Rename(ctx context.Context, from, to string) error {
	return f.pass(func() error { return f.Dir.Rename(ctx, from, to) }, nil)
}

func (f *failing) Append(ctx context.Context, name string, data []byte) error {
	return f.pass(func() error { return f.Dir.Append(ctx, name, data) },
		func() error { return f.Dir.Append(ctx, name, data[:len(data)/2]) })
}

func (f *failing) Create(ctx context.Context, name string, data []byte) error {
	return f.pass(func() error { return f.Dir.Create(ctx, name, data) },
		func() error { return f.Dir.Create(ctx, name, data[:len(data)/2]) })
}

func (f *failing) SyncDir(ctx context.Context, dir string) error {
	return f.pass(func() error { return f.Dir.SyncDir(ctx, dir) }, nil)
}

func (f *failing) List(ctx context.Context, dir string) (infos []fs.FileInfo, err error) {
	err = f.pass(func() (err error) { infos, err = f.Dir.List(ctx, dir); return err }, nil)
	return infos, err
}

func (f *failing) Stat(ctx context.Context, name string) (info fs.FileInfo, err error) {
	err = f.pass(func() (err error) { info, err = f.Dir.Stat(ctx, name); return err }, nil)
	return info, err
}

func (f *failing) Remove(ctx context.Context, name string) error {
	return f.pass(func() error { return f.Dir.Remove(ctx, name) }, nil)
}

func (f *failing) Mkdir(ctx context.Context, dir string) error {
	return f.pass(func() error { return f.Dir.Mkdir(ctx, dir) }, nil)
}

// TestEveryPoint lets everything that changes a repository die at each of its
// calls in turn, in each way. Afterwards every version can be had in whole, and
// the same, done again, succeeds.
func TestEveryPoint(t *testing.T) {
	image := sample(t, 1, 60)
	images := []string{image, change(t, image, 1), change(t, image, 2), sample(t, 9, 60)}
	for name, act := range map[string]func(context.Context, *Repo) error{
		"create": func(ctx context.Context, r *Repo) error { return r.initialize(ctx) },
		"push": func(ctx context.Context, r *Repo) error {
			_, _, err := r.Push(ctx, PushSpec{Name: "web", Path: images[3], Version: "new"})
			return err
		},
		"step": func(ctx context.Context, r *Repo) error {
			_, err := r.PublishStep(ctx, "key", []byte("record"), []StepFile{{Name: "root", Path: images[3]}, {Name: "log", Path: images[2]}})
			return err
		},
		"remove": func(ctx context.Context, r *Repo) error {
			all, err := r.List(ctx, "")
			if err != nil || len(all) < 2 {
				return err // it was done, and the answer was lost
			}
			return r.Remove(ctx, all[0])
		},
		"clean": func(ctx context.Context, r *Repo) error {
			_, err := r.Clean(ctx, CleanOptions{Keep: 1, Steps: 0})
			return err
		},
	} {
		for _, how := range []string{dead, unanswered, half, cancelled} {
			t.Run(name+" "+how, func(t *testing.T) {
				t.Parallel()
				for at := 0; ; at++ {
					if !failAt(t, images, name == "create", act, how, at) {
						t.Logf("%d points", at)
						break
					}
				}
			})
		}
	}
}

// failAt does act in a repository of three versions and a step, or in none,
// and lets the call numbered at fail. False means that there was none.
func failAt(t *testing.T, images []string, empty bool, act func(context.Context, *Repo) error, how string, at int) bool {
	dir, err := os.MkdirTemp(t.TempDir(), "point")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	loc := Location{Path: filepath.Join(dir, "repo")}
	opts := Options{State: filepath.Join(dir, "state"), workers: 2}
	if !empty {
		fillThree(t, loc, images)
	}
	r := newRepo(loc, opts)
	if !empty {
		if r, err = Open(t.Context(), loc, opts); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	f := &failing{Dir: r.files.(*backend.Dir), how: how, at: at}
	if how == cancelled {
		f.stop = stop
	}
	r.files = f
	err = act(ctx, r)
	if f.failed() && err == nil && how != cancelled && !f.harmless() {
		t.Errorf("%s call %d failed, and nobody says so", how, at)
	}
	if !f.failed() && err != nil {
		t.Fatalf("%s call %d: nothing failed: %v", how, at, err)
	}
	afterwards(t, loc, opts, empty, act, fmt.Sprintf("%s call %d", how, at))
	return f.failed()
}

// harmless reports whether the last call was the first to fail: removing a
// temporary file and closing up need not succeed.
func (f *failing) harmless() bool { return f.calls == f.at+1 }

// fillThree makes a repository of three versions and a step.
func fillThree(t *testing.T, loc Location, images []string) {
	t.Helper()
	r, err := Create(t.Context(), loc, Options{workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, image := range images[:3] {
		push(t, r, "web", image)
	}
	if _, err := r.PublishStep(t.Context(), "old", nil, []StepFile{{Name: "root", Path: images[0]}}); err != nil {
		t.Fatal(err)
	}
}

// afterwards looks at the repository as another machine does, and lets the
// first one try again.
func afterwards(t *testing.T, loc Location, opts Options, empty bool, act func(context.Context, *Repo) error, when string) {
	t.Helper()
	other, err := Create(t.Context(), loc, Options{})
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer other.Close()
	sound(t, other, when)
	again, err := Open(t.Context(), loc, opts)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	defer again.Close()
	if err := act(t.Context(), again); err != nil {
		t.Fatalf("%s: again: %v", when, err)
	}
	sound(t, other, when+", again")
	if _, err := other.Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	sound(t, other, when+", cleaned")
	if left, _ := filepath.Glob(filepath.Join(loc.Path, "tmp", "*")); len(left) > 0 {
		t.Fatalf("%s: left: %v", when, left)
	}
}

// sound fails the test if anything is damaged but half a line of the log.
func sound(t *testing.T, r *Repo, when string) {
	t.Helper()
	damage, err := r.Check(t.Context(), true)
	damage = slices.DeleteFunc(damage, func(d Damage) bool { return d.Path == logName })
	if err != nil || len(damage) > 0 {
		t.Fatalf("%s: %+v, %v", when, damage, err)
	}
}

// stacks lists the goroutines of this package that run.
func stacks() string {
	buf := make([]byte, 1<<20)
	var ours []string
	for _, text := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(text, "engine/repo.") && !strings.Contains(text, "engine/repo.Test") && !strings.Contains(text, "engine/repo.stacks") {
			ours = append(ours, text)
		}
	}
	return strings.Join(ours, "\n\n")
}

// TestNothingStaysBehind cancels pushes and pulls over SSH, and closes.
func TestNothingStaysBehind(t *testing.T) {
	s := kinds()[1].make(t)
	r := s.create(t)
	image := noise(t, 1, 40<<20)
	v, _ := push(t, r, "web", image)
	for n := range 12 {
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(n*7)*time.Millisecond, stop)
		if n%2 == 0 {
			r.Push(ctx, PushSpec{Name: "db", Path: noise(t, byte(n+2), 40<<20)})
		} else {
			r.Pull(ctx, v, filepath.Join(t.TempDir(), "pulled"), PullOptions{})
		}
		stop()
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for range 500 { // what ended its work needs a moment to end
		if stacks() == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("left behind:\n%s", stacks())
}
