package repo

import (
	"os"

	"b9.build/b9/engine/internal/sparse"
)

const (
	// sampled is how many segments are looked at before a file is read, and
	// sampleFrom the least number of segments that makes that worth it.
	sampled, sampleFrom = 32, 64
	// sampleHits is the least share of a sample's blocks that must be wanted:
	// one in so many. To read and hash what is of no use takes about as long as
	// to fetch the same from near by.
	sampleHits = 64
)

// promising reports whether a part of a file seems to have missing blocks, by a
// look at segments that are spread evenly over it. Images that have nothing in
// common do not share one block in sampleHits; of small files, and of those that
// can't be read, it is not known.
func (d *download) promising(f *os.File, size int64, o scanOptions) bool {
	to := size
	if o.to > 0 {
		to = min(o.to, size)
	}
	if to-o.from < sampleFrom*segmentSize {
		return true
	}
	s := segment{data: make([]byte, segmentSize)}
	blocks, hits, next := 0, 0, o.from
	for i := range int64(sampled) {
		start, _, err := sparse.Run(f, max(next, o.from+(to-o.from)/sampled*i), size)
		if err != nil {
			return true
		}
		if start -= start % segmentSize; start >= to {
			break
		}
		s.start, next = start, start+segmentSize
		if err := s.fill(f, size, scanOptions{blocks: true}); err != nil {
			return true
		}
		for _, id := range s.ids {
			if id == (blockID{}) {
				continue
			}
			blocks++
			if _, ok := d.missing[id]; ok {
				hits++
			}
		}
	}
	return hits*sampleHits >= blocks
}
