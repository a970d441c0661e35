package main

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// b9 is short-lived and small; fewer collections make a no-op build noticeably quicker.
// ampleMemory is how many bytes of heap it may fill before it is collected, and mostPercent
// how much of what is in use may come on top of that.
const (
	ampleMemory = 64 << 20
	mostPercent = 1000
)

// boundMemory sets how often garbage is collected: whenever the heap has grown by half, but
// not below ampleMemory. It is no limit: near one the collector runs all the time, half of
// the processors' time, and a graph may need more.
func boundMemory() {
	debug.SetGCPercent(mostPercent)
	debug.SetMemoryLimit(ampleMemory)
	afterCollection()
}

// afterCollection sets that anew after the next collection, and so on.
func afterCollection() {
	runtime.AddCleanup(new([16]byte), func(int) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		debug.SetMemoryLimit(math.MaxInt64)
		debug.SetGCPercent(growth(int64(live[0].Value.Uint64())))
		afterCollection()
	}, 0)
}

// growth is by how many percent a heap may grow of which so many bytes are in use.
func growth(live int64) int {
	return int(min(mostPercent, max(50, 100*(ampleMemory-live)/max(1, live))))
}
