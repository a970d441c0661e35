package store

import (
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// useSet holds the digests that a Store handed out or took in, which its own
// collections leave alone. Half of a digest tells it apart from others.
type useSet struct {
	mu sync.Mutex
	in map[halfDigest]struct{}
}

type halfDigest [16]byte

func half(d Digest) halfDigest { return halfDigest(d[:]) }

func (u *useSet) add(d Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.in == nil {
		u.in = map[halfDigest]struct{}{}
	}
	u.in[half(d)] = struct{}{}
}

func (u *useSet) has(d Digest) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.in[half(d)]
	return ok
}

// unlessIn calls fn when d is not in the set, and lets nobody add it
// meanwhile.
func (u *useSet) unlessIn(d Digest, fn func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.in[half(d)]; ok {
		return nil
	}
	return fn()
}

// all returns a copy of the set.
func (u *useSet) all() map[halfDigest]struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.in)
}

const (
	// missedSample is how many records tell whether the rest may be old: an
	// earlier build of the same steps renewed all of them together.
	missedSample = 16
	// missedBatch is how many are renewed while collectors wait.
	missedBatch = 64
)

// renewMissed gives the records that lead to objects that were asked for in vain
// a new time, at the grain of useGrain. The records were of use all the same: a
// build needs no more of a step whose output it does not read. No object's time
// tells of that, so the record's own has to. A record that is left out only goes
// sooner.
func (s *Store) renewMissed() {
	in := s.missed.all()
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
