package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// What is added while a flush runs shares the next one, and nobody goes on before a
// flush that began after he had added his.
func TestFlushesAreShared(t *testing.T) {
	var f flusher
	var runs atomic.Int64
	begun, end := make(chan struct{}), make(chan struct{})
	run := func(items []*flushItem) {
		if runs.Add(1) == 1 {
			close(begun)
			<-end
		}
		for _, it := range items {
			it.err = errors.Join(it.err, errors.New(it.dir))
		}
	}
	items := make([]*flushItem, 100)
	var waiting sync.WaitGroup
	for i := range items {
		items[i] = &flushItem{dir: fmt.Sprint(i)}
		waiting.Go(func() { f.wait(items[i:i+1], run) })
		if i == 0 {
			<-begun
		}
	}
	for gathered := 0; gathered < len(items)-1; {
		f.mu.Lock()
		if f.next != nil {
			gathered = len(f.next.items)
		}
		f.mu.Unlock()
	}
	close(end)
	waiting.Wait()
	if n := runs.Load(); n != 2 {
		t.Errorf("%d flushes, want 2", n)
	}
	for i, it := range items {
		if it.err == nil || it.err.Error() != fmt.Sprint(i) {
			t.Errorf("item %d: %v: not flushed once", i, it.err)
		}
	}
	f.wait([]*flushItem{{dir: "x"}}, run)
	if runs.Load() != 3 || f.running {
		t.Error("a flush after the others did not run")
	}
}

// An error of one file is that of who added it.
func TestAFlushThatFailsIsTold(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	gone := &flushItem{dir: filepath.Join(s.Dir(), "gone")}
	if err := s.onDisk(gone); err == nil {
		t.Error("names in a directory that is not there were flushed")
	}
	check(t, s.onDisk(&flushItem{dir: s.Dir()}, &flushItem{dir: s.Dir()}))
}
