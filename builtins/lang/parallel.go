package lang

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long a file that was told to stop may take to do so.
const grace = time.Second

// loadAll evaluates the build files that are not yet, with all processors,
// and returns when all are done. An error means that the evaluation was
// stopped; mistakes in the files are left in the modules.
//
// A file can be busy in one call of the interpreter that looks at no limit
// (hashing a value that contains itself a billion times over, for example).
// Its goroutine is then abandoned, and the workspace with it.
func (w *Workspace) loadAll(ctx context.Context, files []Label) error {
	limit := w.cfg.Limits.Time
	ctx, cancelTime := context.WithTimeoutCause(ctx, limit, fmt.Errorf("evaluation took longer than %s", limit))
	defer cancelTime()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.memory = newMemoryWatch(w.cfg.Limits.Memory)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.runWorkers(ctx, files)
	}()
	watching := time.NewTicker(10 * time.Millisecond)
	defer watching.Stop()
	for {
		select {
		case <-done:
			return context.Cause(ctx)
		case <-ctx.Done():
			return w.awaitStop(ctx, done)
		case <-watching.C:
			if err := w.memory.check(); err != nil {
				cancel(err)
			}
		}
	}
}

// awaitStop gives cancelled files a moment to stop.
func (w *Workspace) awaitStop(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return context.Cause(ctx)
	case <-time.After(grace):
		w.broken = fmt.Errorf("evaluation stopped: %w (in %s)", context.Cause(ctx), strings.Join(w.running(), ", "))
		return w.broken
	}
}

// running names the files whose evaluation has not ended.
func (w *Workspace) running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for id, m := range w.modules {
		if !m.ended() && m.blockedOn == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *Workspace) runWorkers(ctx context.Context, files []Label) {
	// A worker evaluates many files: its stack, once grown for the interpreter,
	// serves all of them.
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(files)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				w.loadOne(ctx, files[i])
			}
		})
	}
	workers.Wait()
}

// loadOne evaluates the file unless it has been claimed already; then it
// waits for its end.
func (w *Workspace) loadOne(ctx context.Context, base Label) {
	w.mu.Lock()
	m, mine := w.claimLocked(base.file(), Label{Pkg: base.Pkg, File: base.File}, false)
	w.mu.Unlock()
	w.finish(ctx, m, mine)
}

// finish evaluates a module that the caller has claimed, and waits for the end
// of any other. It reports whether the module has ended.
func (w *Workspace) finish(ctx context.Context, m *module, mine bool) bool {
	if mine {
		w.evaluate(ctx, m)
		return true
	}
	select {
	case <-m.done:
		return true
	case <-ctx.Done():
		return false
	}
}
