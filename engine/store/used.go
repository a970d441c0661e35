package store

import (
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// useSet holds the digests that a Store handed out or took in, which its own
// collections leave alone.
type useSet struct {
	mu sync.Mutex
	in map[Digest]struct{}
}

func (u *useSet) add(d Digest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.in == nil {
		u.in = map[Digest]struct{}{}
	}
	u.in[d] = struct{}{}
}

func (u *useSet) has(d Digest) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, ok := u.in[d]
	return ok
}

// unlessIn calls fn when d is not in the set, and lets nobody add it
// meanwhile.
func (u *useSet) unlessIn(d Digest, fn func() error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.in[d]; ok {
		return nil
	}
	return fn()
}

// each calls fn, which must not use the set, for every digest.
func (u *useSet) each(fn func(Digest)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for d := range u.in {
		fn(d)
	}
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
	in := map[Digest]struct{}{}
	s.missed.each(func(d Digest) { in[d] = struct{}{} })
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
