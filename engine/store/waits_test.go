package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
)

// waits are the calls that wait for another process, by the lock that they wait for.
func waits() map[string]map[string]func(context.Context, *Store) error {
	return map[string]map[string]func(context.Context, *Store) error{
		"gate": {
			"open": func(_ context.Context, s *Store) error {
				again, err := Open(s.dir, s.opts)
				if err == nil {
					err = again.Close()
				}
				return err
			},
			"renew": func(_ context.Context, s *Store) error { return s.gate.pass(func() error { return nil }) },
			"remove": func(_ context.Context, s *Store) error {
				return s.gate.shut(func() error { return nil })
			},
		},
		"scratch": {
			"make": func(_ context.Context, s *Store) error {
				c, err := s.Scratch("x")
				if err == nil { // an empty one would serve again, without the lock
					err = errors.Join(os.WriteFile(filepath.Join(c.Dir(), "x"), nil, 0o600), c.Close())
				}
				return err
			},
			"reap": func(_ context.Context, s *Store) error { return s.Reap() },
		},
		"results": {
			"name": func(_ context.Context, s *Store) error {
				return s.NameResult("/nowhere", "//:x", []Object{{Kind: File, Digest: key("x")}})
			},
		},
		"collect": {
			"collect": func(ctx context.Context, s *Store) error { _, err := s.Collect(ctx, Policy{}); return err },
			"verify":  func(ctx context.Context, s *Store) error { _, err := s.Verify(ctx, true); return err },
		},
		"keys": {
			"key": func(ctx context.Context, s *Store) error {
				unlock, err := s.LockKey(ctx, key("x"))
				if err == nil {
					unlock()
				}
				return err
			},
		},
		"beside": {
			"file": func(ctx context.Context, s *Store) error {
				f, err := s.LockFile(ctx, s.lockPath("beside"), os.O_RDWR)
				if err == nil {
					err = f.Close()
				}
				return err
			},
		},
	}
}

// hold locks what the calls wait for, as another process would.
func hold(t *testing.T, s *Store, name string) (release func()) {
	t.Helper()
	f := must[*os.File](t)(openFile(s.lockPath(name)))
	if name == "keys" {
		check(t, (&keyLocks{f: f}).byteLock(key("x"), unix.F_WRLCK))
	} else if ok, err := flock.Try(f, flock.Exclusive); !ok {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

// TestEveryWaitEnds holds each lock of the store and makes each call that waits for it:
// an interruption ends the wait at once, and a wait that lasts names the process. One
// for a lock that is held for moments ends by itself.
func TestEveryWaitEnds(t *testing.T) {
	for name, calls := range waits() {
		for what, call := range calls {
			t.Run(name+"/"+what, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "store")
				quick := must[*Store](t)(Open(dir, Options{}))
				defer quick.Close()
				release := hold(t, quick, name)
				gone := make(chan struct{})
				close(gone)
				quick.opts.Interrupted = gone
				done, cancel := context.WithCancel(t.Context())
				cancel()
				if err := call(done, quick); !errors.Is(err, context.Canceled) {
					t.Errorf("interrupted: %v", err)
				}
				release()
				quick.opts.Interrupted = nil
				check(t, call(t.Context(), quick))
				told, err := outwait(t, quick, name, call)
				want := fmt.Sprintf("waiting for process %d (", os.Getpid())
				if !strings.HasPrefix(told, want) {
					t.Errorf("told %q, want %q", told, want)
				}
				var held *flock.HeldError
				if long := name == "collect" || name == "keys"; long != errors.Is(err, context.Canceled) || long == errors.As(err, &held) {
					t.Errorf("in the end: %v", err)
				}
			})
		}
	}
}

// outwait makes the call in made-up time, while the lock is held, and cancels it after
// longer than anyone holds a lock for moments.
func outwait(t *testing.T, s *Store, name string, call func(context.Context, *Store) error) (told string, err error) {
	t.Helper()
	release := hold(t, s, name)
	defer release()
	synctest.Test(t, func(t *testing.T) {
		s.opts.Waiting = func(text string) { told = text }
		ctx, cancel := context.WithTimeoutCause(t.Context(), 2*flock.Moments, nil)
		defer cancel()
		if err = call(ctx, s); errors.Is(err, context.DeadlineExceeded) {
			err = errors.Join(err, context.Canceled)
		}
		s.opts.Waiting = nil
	})
	return told, err
}
