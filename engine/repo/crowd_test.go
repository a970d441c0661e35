package repo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/internal/seedtest"
)

// TestCrowd lets two machines push, two collect without grace, and one each
// publish steps, check and pull, all at once. None may notice the others, but
// for what was removed.
func TestCrowd(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		push(t, s.create(t), "web", sample(t, 1, 300))
		var pushers, others sync.WaitGroup
		const versions = 6
		for n := range 2 {
			r := s.elsewhere(t)
			image := sample(t, uint64(n+1), 300)
			pushers.Go(func() {
				for i := range versions {
					spec := PushSpec{Name: "web", Path: change(t, image, 10*n+i), Version: fmt.Sprintf("v%d.%d", n, i)}
					if _, _, err := r.Push(t.Context(), spec); err != nil {
						t.Errorf("push: %v", err)
					}
				}
			})
		}
		stepper := s.elsewhere(t)
		pushers.Go(func() {
			for i := range versions {
				key := fmt.Sprint("key", i)
				if _, err := stepper.PublishStep(t.Context(), key, nil, []StepFile{{Name: "root", Path: sample(t, uint64(i+20), 100)}}); err != nil {
					t.Errorf("publish: %v", err)
				}
				if _, err := stepper.LookupStep(t.Context(), key); err != nil && !errors.Is(err, ErrNotFound) {
					t.Errorf("look up: %v", err)
				}
			}
		})
		ctx, done := context.WithCancel(t.Context())
		again := func(what string, most int, act func(*Repo) error) {
			r := s.elsewhere(t)
			others.Go(func() {
				for n := 0; n < most && ctx.Err() == nil; n++ {
					if err := act(r); err != nil {
						t.Errorf("%s: %v", what, err)
						return
					}
				}
			})
		}
		moment := seedtest.Moments(t)
		for range 2 { // less often in all than a push begins again
			again("clean", maxTries/2-1, func(r *Repo) error {
				_, err := r.Clean(t.Context(), CleanOptions{Keep: 2, Steps: 2})
				time.Sleep(moment(200 * time.Millisecond))
				return err
			})
		}
		again("check", math.MaxInt, func(r *Repo) error {
			damage, err := r.Check(t.Context(), true)
			if err == nil && len(damage) > 0 {
				err = fmt.Errorf("%+v", damage)
			}
			return err
		})
		dir := t.TempDir()
		again("pull", math.MaxInt, func(r *Repo) error {
			v, err := r.Resolve(t.Context(), Selector{Name: "web"})
			if err != nil {
				return err
			}
			dst := filepath.Join(dir, "pulled")
			os.Remove(dst)
			if _, err = r.Pull(t.Context(), v, dst, PullOptions{}); errors.Is(err, ErrNotFound) {
				return nil
			}
			return err
		})
		pushers.Wait()
		done()
		others.Wait()
		if list := intact(t, s.elsewhere(t)); len(list) < 2 {
			t.Errorf("left: %+v", list)
		}
	})
}

// TestStrangersInTmp collects beside what somebody else put there.
func TestStrangersInTmp(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		push(t, r, "web", sample(t, 1, 50))
		for _, dir := range []string{"tmp/a b\n'*[", "packs/x", "packs/" + newFileID(nil).String()} {
			if err := os.MkdirAll(filepath.Join(s.dir, dir, "inside"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		odd := filepath.Join(s.dir, "tmp", "\xff'\"$(x)\n[*")
		if err := os.WriteFile(odd, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Clean(t.Context(), CleanOptions{Keep: -1, Steps: -1}); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(odd); err == nil {
			t.Error("a temporary file with an odd name stayed")
		}
		intact(t, s.elsewhere(t))
	})
}
