package store

import "sync"

// useSet holds the digests that a Store handed out or took in, which its own
// collections leave alone. It is cut in parts by a digest's first byte, so
// that the goroutines of a build seldom meet.
type useSet [64]usePart

type usePart struct {
	mu sync.Mutex
	in map[Digest]struct{}
}

func (u *useSet) part(d Digest) *usePart { return &u[int(d[0])%len(u)] }

func (u *useSet) add(d Digest) {
	p := u.part(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.in[d]; ok {
		return
	}
	if p.in == nil {
		p.in = map[Digest]struct{}{}
	}
	p.in[d] = struct{}{}
}

func (u *useSet) has(d Digest) bool {
	p := u.part(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.in[d]
	return ok
}

// unlessIn calls fn when d is not in the set, and lets nobody add it
// meanwhile.
func (u *useSet) unlessIn(d Digest, fn func() error) error {
	p := u.part(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.in[d]; ok {
		return nil
	}
	return fn()
}

// each calls fn, which must not use the set, for every digest.
func (u *useSet) each(fn func(Digest)) {
	for i := range u {
		u[i].each(fn)
	}
}

func (p *usePart) each(fn func(Digest)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d := range p.in {
		fn(d)
	}
}
