package trial

import (
	"context"
	"sync"
	"time"
)

// clock counts the time that a machine had on its host: while its threads wait for a
// processor that other processes have, it stands still but for a part. So a limit that is
// right for a machine alone is right for one among twenty, which takes twenty times as long;
// and a machine that does nothing comes to its limit in that time whatever else runs.
type clock struct {
	waited func() time.Duration
	began  time.Time
	done   chan struct{}
	ended  chan struct{}

	mu     sync.Mutex
	counts time.Duration
	limits map[*limit]bool
}

type limit struct {
	at     time.Duration
	cancel func()
}

// tick is how often the clock is read; least is the part of the time that it counts at
// least, so that each limit comes.
const (
	tick  = 200 * time.Millisecond
	least = 20
)

func newClock(waited func() time.Duration) *clock {
	c := &clock{waited: waited, began: time.Now(), done: make(chan struct{}), ended: make(chan struct{}), limits: map[*limit]bool{}}
	go c.run()
	return c
}

func (c *clock) run() {
	defer close(c.ended)
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	at, waited := c.began, c.waited()
	for {
		select {
		case <-c.done:
			return
		case <-ticks.C:
		}
		now, so := time.Now(), c.waited()
		c.add(now.Sub(at), so-waited)
		at, waited = now, so
	}
}

// add counts some time, of which the machine waited a part. That is less than none where a
// thread that had waited has ended.
func (c *clock) add(passed, waited time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts += max(passed-max(waited, 0), passed/least)
	for l := range c.limits {
		if c.counts >= l.at {
			l.cancel()
			delete(c.limits, l)
		}
	}
}

// limit is a context that ends, with the cause, when the clock has counted so much from
// now on. The caller calls done.
func (c *clock) limit(ctx context.Context, d time.Duration, cause error) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &limit{at: c.counts + d, cancel: func() { cancel(cause) }}
	c.limits[l] = true
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.limits, l)
		cancel(nil)
	}
}

// since is how many seconds have passed since the clock began, as other clocks have it.
func (c *clock) since() float64 { return seconds(c.began) }

func (c *clock) stop() {
	close(c.done)
	<-c.ended
}
