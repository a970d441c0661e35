package repo

import (
	"context"
	"errors"
	"fmt"
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
