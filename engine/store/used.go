package store

import "sync"

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
