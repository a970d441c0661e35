package engine

// Sign is that of the result at rel.
func (p *Placer) Sign(rel string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[rel].Sign
}
