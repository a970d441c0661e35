package store

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// missed notes which objects were asked for in vain. Their records were of
// use all the same: a build needs no more of a step whose output it does not
// read. No object's time tells of that, so the record's own has to.
type missed struct {
	mu sync.Mutex
	in map[Digest]struct{}
}

func (m *missed) add(d Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.in == nil {
		m.in = map[Digest]struct{}{}
	}
	m.in[d] = struct{}{}
}

// take empties it.
func (m *missed) take() map[Digest]struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	in := m.in
	m.in = nil
	return in
}

const (
	// missedSample is how many records tell whether the rest may be old: an
	// earlier build of the same steps renewed all of them together.
	missedSample = 16
	// missedBatch is how many are renewed while collectors wait.
	missedBatch = 64
)

// renewMissed gives the records that lead to missed objects a new time, at
// the grain of useGrain. A record that is left out only goes sooner.
func (s *Store) renewMissed() {
	in := s.missed.take()
	if len(in) == 0 {
		return
	}
	keys := s.index.leadTo(in)
	isOld := func(key Digest) bool { return s.recordIsOld(key) }
	if !slices.ContainsFunc(keys[:min(missedSample, len(keys))], isOld) {
		return
	}
	for batch := range slices.Chunk(keys, missedBatch) {
		_ = s.gate.pass(func() error {
			for _, key := range batch {
				if isOld(key) {
					_ = setMTime(s.recordPath(key), s.now())
				}
			}
			return nil
		})
	}
}

// recordIsOld reports whether the record is there, and its time so old that
// a use has to renew it.
func (s *Store) recordIsOld(key Digest) bool {
	var st unix.Stat_t
	return s.lstat(recordsDir, key, &st) == nil && st.Mtim.Nano() < s.now()-int64(useGrain)
}
