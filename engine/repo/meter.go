package repo

import (
	"sync"
	"time"
)

// meter counts what a transfer moves and reports it to Options.Progress.
type meter struct {
	r     *Repo
	begun time.Time
	sent  int64 // traffic of the repository at the beginning
	got   int64

	mu   sync.Mutex
	p    Progress
	told time.Time
}

func (r *Repo) newMeter(name string, total int64) *meter {
	m := &meter{r: r, begun: time.Now()}
	m.sent, m.got = r.files.Traffic()
	m.p.Name, m.p.Total, m.p.Transfer.Total = name, total, total
	return m
}

// resize sets the size of the image when it is known.
func (m *meter) resize(total int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Total, m.p.Transfer.Total = total, total
}

// restart forgets what was found, because the files are read once more. What
// had to move stays counted.
func (m *meter) restart() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Done, m.p.Reused, m.p.Holes = 0, 0, 0
}

// count adds bytes of the image that are done: moved, found, or holes.
func (m *meter) count(moved, reused, holes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.New += moved
	m.p.Reused += reused
	m.p.Holes += holes
	m.p.Done += moved + reused
	m.p.Total = m.p.Transfer.Total - m.p.Holes
	if m.r.opts.Progress != nil && time.Since(m.told) >= 100*time.Millisecond {
		m.report()
	}
}

// report calls Progress; its caller holds the lock.
func (m *meter) report() {
	m.told = time.Now()
	m.p.Elapsed = m.told.Sub(m.begun)
	sent, received := m.r.files.Traffic()
	m.p.Sent, m.p.Received = sent-m.sent, received-m.got
	if m.r.opts.Progress != nil {
		m.r.opts.Progress(m.p)
	}
}

// end reports the last state, and returns what moved.
func (m *meter) end() Transfer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.report()
	return m.p.Transfer
}
