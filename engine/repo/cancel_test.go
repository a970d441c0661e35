package repo

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/repo/internal/backend"
)

// TestCancelledBesideOthers cancels calls while a push and a pull use the same
// connection: theirs is not the reason to end it.
func TestCancelledBesideOthers(t *testing.T) {
	t.Parallel()
	s, _ := overSlowLine(t, 20*time.Millisecond)
	r := s.create(t)
	image := noise(t, 1, 24<<20)
	v, _ := push(t, r, "web", image)
	var others sync.WaitGroup
	others.Go(func() {
		if _, _, err := r.Push(t.Context(), PushSpec{Name: "db", Path: noise(t, 2, 24<<20)}); err != nil {
			t.Errorf("push: %v", err)
		}
	})
	others.Go(func() {
		if _, err := r.Pull(t.Context(), v, filepath.Join(t.TempDir(), "pulled"), PullOptions{}); err != nil {
			t.Errorf("pull: %v", err)
		}
	})
	done := make(chan struct{})
	go func() {
		others.Wait()
		close(done)
	}()
	for n := 1; ; n++ {
		select {
		case <-done:
			intact(t, s.elsewhere(t))
			return
		default:
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(n%40)*time.Millisecond, cancel)
		_, err := r.files.Stat(ctx, logName)
		if err == nil {
			_, err = backend.ReadPart(ctx, r.files, logName, 0, 10)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a call that was cancelled: %v", err)
		}
		cancel()
	}
}

// TestFailedBesideOthers lets one of two pushes in a process fail while it
// sends: the other one does not notice.
func TestFailedBesideOthers(t *testing.T) {
	t.Parallel()
	s, _ := overSlowLine(t, 20*time.Millisecond)
	r := s.create(t)
	var other sync.WaitGroup
	other.Go(func() {
		if _, _, err := r.Push(t.Context(), PushSpec{Name: "web", Path: noise(t, 1, 40<<20)}); err != nil {
			t.Errorf("push: %v", err)
		}
	})
	for n := range 4 {
		_, err := r.PublishStep(t.Context(), "key", nil, []StepFile{
			{Name: "root", Path: noise(t, byte(2+n), 34<<20)}, {Name: "log", Path: "/nothing/is/here"}})
		if err == nil {
			t.Error("a file that is not there was published")
		}
		_, err = r.PublishStep(t.Context(), "key", nil, []StepFile{{Name: "root", Path: noise(t, byte(2+n), 34<<20), Digest: Digest{1}}})
		if !errors.Is(err, sparse.ErrChanged) {
			t.Errorf("a file that changed: %v", err)
		}
	}
	other.Wait()
	intact(t, s.elsewhere(t))
}
