package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// b9 is short-lived and small; fewer collections make a no-op build noticeably quicker.
// leastMemory, in bytes, is a limit that keeps a large graph in bounds all the same.
const leastMemory = 128 << 20

// boundMemory sets how often garbage is collected. Near a limit the collector runs all
// the time, half of the processors' time, so the limit follows what is in use: it leaves
// room for 2/5 of that, and collections take in proportion to what is allocated, however
// large the graph.
func boundMemory() {
	debug.SetGCPercent(1000)
	debug.SetMemoryLimit(leastMemory)
	afterCollection()
}

// afterCollection sets the limit anew after the next collection, and so on.
func afterCollection() {
	runtime.AddCleanup(new([16]byte), func(int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetMemoryLimit(memoryLimit(int64(live[0].Value.Uint64())))
		afterCollection()
	}, 0)
}

// memoryLimit is the limit, in bytes, for so much that is in use.
func memoryLimit(live int64) int64 { return max(leastMemory, live+live*2/5+16<<20) }
