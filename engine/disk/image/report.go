package image

import "fmt"

// Report is what Check found.
type Report struct {
	Format      string
	Clusters    int64    // units of the image that hold data
	Leaks       int64    // clusters of the file that are counted but not in use: room is wasted, nothing is wrong
	Corruptions int64    // what makes data wrong or endangers it
	Problems    []string // the first of both, a sentence each
}

// maxProblems is how many sentences a report holds at most.
const maxProblems = 20

func (r *Report) Corrupt(format string, args ...any) {
	r.Corruptions++
	r.note(format, args...)
}

func (r *Report) Leak(n int64, format string, args ...any) {
	r.Leaks += n
	r.note(format, args...)
}

func (r *Report) note(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}

// Bitmap is a set of small numbers.
type Bitmap []uint64

func NewBitmap(n int64) Bitmap { return make(Bitmap, n/64+1) }

// Set adds i and reports whether it was there before. Numbers out of range are not.
func (b Bitmap) Set(i int64) bool {
	if i < 0 || i/64 >= int64(len(b)) {
		return false
	}
	was := b[i/64]>>(i%64)&1 != 0
	b[i/64] |= 1 << (i % 64)
	return was
}
