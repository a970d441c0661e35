package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// A heap of any size may grow by half, so that the collector rests; a small one to what is ample.
func TestTheHeapMayGrowWithWhatIsInUse(t *testing.T) {
	for live, want := range map[int64]int{0: 1000, 5 << 20: 1000, 32 << 20: 100, 80 << 20: 50, 4 << 30: 50} {
		if got := growth(live); got != want {
			t.Errorf("with %d MiB in use the heap grows by %d %%, want %d", live>>20, got, want)
		}
	}
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	boundMemory()
	held := make([]byte, 2*ampleMemory)
	for until := time.Now().Add(time.Minute); debug.SetMemoryLimit(-1) != math.MaxInt64; runtime.GC() {
		if time.Now().After(until) {
			t.Fatal("the limit stays, with more than it in use")
		}
	}
	runtime.KeepAlive(held)
}
