package repo

import (
	"runtime"
	"time"
)

// concurrency returns how many goroutines hash and compress.
func (o Options) concurrency() int {
	if o.workers > 0 {
		return o.workers
	}
	return min(runtime.GOMAXPROCS(0), 8)
}

// timeout returns how long to wait for an answer in which nothing arrives.
func (o Options) timeout() time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return 60 * time.Second
}
