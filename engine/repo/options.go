package repo

import (
	"runtime"
	"time"
)

// workers returns how many goroutines hash and compress.
func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
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
