package repo

import (
	"os"

	"b9.build/b9/engine/internal/sparse"
)

const (
	// sampled is how many segments are read before a whole file is, and
	// sampleFrom the number of segments from which on that pays.
	sampled, sampleFrom = 32, 64
	// sampleHits says that one in so many of a sample's blocks has to be missing
	// for the file to be read. To read and hash a file takes about as long as to
	// fetch as much from a server near by.
	sampleHits = 64
)

// promising reports whether a part of a file seems to have missing blocks. It
// reads segments that are spread evenly over the part. Images that have nothing
// in common do not share one block in sampleHits. It is true as well for small
// files, and for those that can't be read.
func (d *download) promising(f *os.File, size int64, o scanOptions) bool {
	if o.to-o.from < sampleFrom*segmentSize {
		return true
	}
	s := segment{data: make([]byte, segmentSize)}
	blocks, hits, next := 0, 0, o.from
	for i := range int64(sampled) {
		start, _, err := sparse.Run(f, max(next, o.from+(o.to-o.from)/sampled*i), size)
		if err != nil {
			return true
		}
		if start -= start % segmentSize; start >= o.to {
			break
		}
		s.start, next = start, start+segmentSize
		if err := s.fill(f, size, false); err != nil {
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
