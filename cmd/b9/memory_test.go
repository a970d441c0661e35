package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// The limit follows what is in use, so that no graph is so large that the collector never rests.
func TestTheMemoryLimitFollowsWhatIsInUse(t *testing.T) {
	for _, live := range []int64{0, 50 << 20, 200 << 20, 4 << 30} {
		if limit := memoryLimit(live); limit < leastMemory || limit < live*5/4 || limit > max(leastMemory, 2*live) {
			t.Errorf("%d MiB in use have the limit %d MiB", live>>20, limit>>20)
		}
	}
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(math.MaxInt64)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	boundMemory()
	held := make([]byte, 2*leastMemory)
	for until := time.Now().Add(time.Minute); debug.SetMemoryLimit(-1) < int64(len(held)); runtime.GC() {
		if time.Now().After(until) {
			t.Fatalf("%d MiB are in use, and the limit is %d MiB", len(held)>>20, debug.SetMemoryLimit(-1)>>20)
		}
	}
	runtime.KeepAlive(held)
}
