package engine_test

import (
	"context"
	"os"
	"sync"
	"testing"

	"b9/engine"
	"b9/engine/internal/digest"
	"b9/engine/store"
)

// keeper is an engine.Cache that has nothing. It looks at what it is given
// twice: at once, and when everything was given.
type keeper struct {
	came chan struct{}  // a call of Publish has begun
	wait sync.WaitGroup // for all of them

	mu      sync.Mutex
	right   map[string]bool // the digest that was named is that of the file
	touched int             // files that got another time
}

func (k *keeper) Lookup(context.Context, store.Digest) ([]byte, bool)      { return nil, false }
func (k *keeper) Fetch(context.Context, store.Digest, string) (found bool) { return false }

func (k *keeper) Publish(ctx context.Context, _ store.Digest, _ []byte, files []engine.CachedFile) {
	before := times(files)
	k.came <- struct{}{}
	k.wait.Done()
	k.wait.Wait()
	after := times(files)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, f := range files {
		d, _, err := digest.Path(ctx, f.Path, 0)
		k.right[f.Path] = err == nil && d == f.Digest
		if before[i] != after[i] {
			k.touched++
		}
	}
}

// times returns the time of each file, 0 for one that is not there.
func times(files []engine.CachedFile) []int64 {
	list := make([]int64, len(files))
	for i, f := range files {
		if info, err := os.Stat(f.Path); err == nil {
			list[i] = info.ModTime().UnixNano()
		}
	}
	return list
}

// TestPublishedWhileStamped publishes steps with the same output and log. Each
// gives the shared objects another time while the others are published, so
// that a cache has to be told what is in them: by its time a file changed.
func TestPublishedWhileStamped(t *testing.T) {
	b := newBench(t)
	k := &keeper{right: map[string]bool{}, came: make(chan struct{}, 5)}
	var all []engine.Ref
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, node(t, "//:same", &join{Text: "same", Cut: true}, b.source(t, name, name)))
	}
	await := func(context.Context) {
		for range all {
			<-k.came
		}
	}
	last := node(t, "//:last", &join{Text: "last", Cut: true, Await: await}, all...)
	k.wait.Add(len(all) + 1)
	if _, err := b.engine(engine.Config{Cache: k}).Build(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	for path, right := range k.right {
		if !right {
			t.Errorf("%s was published with a digest that is not its own", path)
		}
	}
	if len(k.right) != 3 || k.touched == 0 { // two outputs, one log
		t.Errorf("%d files were published, %d of them touched meanwhile", len(k.right), k.touched)
	}
}
