package image

import (
	"context"
	"fmt"
)

// Structured is an image in a file of which more can be said than of raw bytes.
type Structured interface {
	// Layout says how the file keeps the image.
	Layout() Layout
	// Check adds what is wrong with the structure of the file to the report. The
	// error tells that it could not be looked at.
	Check(ctx context.Context, r *Report) error
}

// Layout is how a file keeps an image.
type Layout struct {
	Subformat string // such as "streamOptimized" or "fixed"; empty where there is only one
	Unit      int64  // bytes of a cluster, grain or block; 0 for raw
	Compress  string // method of compressed units, "zlib" or "zstd"; empty where there is no choice
}

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

// Corrupt adds a corruption and, if there is room, the sentence that describes it.
func (r *Report) Corrupt(format string, args ...any) {
	r.Corruptions++
	r.describe(format, args...)
}

// Leak adds a cluster that is counted but not in use.
func (r *Report) Leak(format string, args ...any) {
	r.Leaks++
	r.describe(format, args...)
}

func (r *Report) describe(format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	}
}
