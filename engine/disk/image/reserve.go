package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// Reserve asks the file system for room before it is written, which saves the
// kernel work at each write. A failure is left to the write to report.
type Reserve struct {
	File *os.File
	From int64 // offset from which UpTo reserves; what is before may stay a hole
	done int64 // offset up to which it has
	off  bool  // it does not work here
}

const (
	reserveStep = 64 << 20
	reserveFrom = 8 << 20   // a file that grows and is smaller is not worth it
	reserveRun  = 128 << 10 // nor is a shorter run
)

// UpTo reserves at least end bytes of a file that grows at its end. The writer
// truncates it in the end.
func (r *Reserve) UpTo(end int64) {
	if end-r.From < reserveFrom || end <= r.done {
		return
	}
	end = RoundUp(end, reserveStep)
	r.allocate(max(r.done, r.From), end)
	r.done = end
}

// Runs reserves the room of long runs of units that will be written where they are.
func (r *Reserve) Runs(units []Unit) {
	for i := 0; i < len(units); i++ {
		if len(units[i].Body) == 0 {
			continue
		}
		start := units[i].At
		for i+1 < len(units) && len(units[i+1].Body) > 0 {
			i++
		}
		if end := units[i].At + int64(len(units[i].Body)); end-start >= reserveRun {
			r.allocate(start, end)
		}
	}
}

func (r *Reserve) allocate(start, end int64) {
	if !r.off {
		r.off = unix.Fallocate(int(r.File.Fd()), 0, start, end-start) != nil
	}
}
