package repo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
)

// TestAChainIsSentOnce publishes steps that have most of their data in common, all
// at once, as a build does with a chain of steps.
func TestAChainIsSentOnce(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		r := s.create(t)
		const blocks, steps = 2000, 3
		base := sample(t, 7, blocks)
		var all sync.WaitGroup
		sent := make([]int64, steps)
		for i := range steps {
			file := change(t, base, i*10)
			all.Go(func() {
				tr, err := r.PublishStep(t.Context(), fmt.Sprint("step ", i), nil, []StepFile{{Name: "root", Path: file}})
				if err != nil {
					t.Error(err)
				}
				sent[i] = tr.New
			})
		}
		all.Wait()
		var sum int64
		for _, n := range sent {
			sum += n
		}
		if most := int64((blocks + steps) * blockSize); sum > most {
			t.Errorf("%d bytes were sent, %v, of %d that are different", sum, sent, most)
		}
		intact(t, s.elsewhere(t))
	})
}

// TestLanes waits behind a large push, and gives up with its context.
func TestLanes(t *testing.T) {
	l := newLanes()
	leave, err := l.enter(t.Context(), largePush)
	if err != nil {
		t.Fatal(err)
	}
	small, err := l.enter(t.Context(), largePush-1)
	if err != nil {
		t.Fatal(err)
	}
	small()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.enter(ctx, largePush); !errors.Is(err, context.Canceled) {
		t.Errorf("a second large push: %v", err)
	}
	leave()
	if leave, err = l.enter(t.Context(), largePush); err != nil {
		t.Fatal(err)
	}
	leave()
}

// TestAChainOfTwoProcessesIsSentOnce publishes one chain of steps from two processes
// at once, which have no state in common. Together they send little more than one
// alone would have.
func TestAChainOfTwoProcessesIsSentOnce(t *testing.T) {
	each(t, func(t *testing.T, s site) {
		s.create(t)
		const size, steps = 48 << 20, 3
		base := noise(t, 7, size)
		var chain []string
		for i := range steps {
			chain = append(chain, change(t, base, i*10))
		}
		var both sync.WaitGroup
		out := make([][]byte, 2)
		for i := range out {
			other := s
			other.opts.State = t.TempDir()
			e := errandFor(other)
			e.Chain = chain
			cmd := e.command(t)
			both.Go(func() {
				var err error
				if out[i], err = cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out[i])
				}
			})
		}
		both.Wait()
		var sum int64
		for _, f := range files(t, s, "packs") {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			sum += info.Size()
		}
		t.Logf("%d bytes of packs for %d of data", sum, size)
		if most := int64(size + size/8); sum > most {
			t.Errorf("%d bytes were sent, of %d that are different: %s", sum, size, out)
		}
		if left := files(t, s, "tmp"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		intact(t, s.elsewhere(t))
	})
}
