package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve asks the file system for room before it is written, which saves the
// kernel work at each write. A failure is left to the write to report.
type reserve struct {
	file *os.File
	from int64 // offset from which upTo reserves; what is before may stay a hole
	done int64 // offset up to which it has
	off  bool  // it does not work here
}

const (
	reserveStep = 64 << 20
	reserveFrom = 8 << 20   // a file that grows and is smaller is not worth it
	reserveRun  = 128 << 10 // nor is a shorter run
)

// upTo reserves at least end bytes of a file that grows at its end. The writer
// truncates it in the end.
func (r *reserve) upTo(end int64) {
	if end-r.from < reserveFrom || end <= r.done {
		return
	}
	end = roundUp(end, reserveStep)
	r.allocate(max(r.done, r.from), end)
	r.done = end
}

// runs reserves the room of long runs of units that will be written where they are.
func (r *reserve) runs(units []unit) {
	for i := 0; i < len(units); i++ {
		if len(units[i].body) == 0 {
			continue
		}
		start := units[i].at
		for i+1 < len(units) && len(units[i+1].body) > 0 {
			i++
		}
		if end := units[i].at + int64(len(units[i].body)); end-start >= reserveRun {
			r.allocate(start, end)
		}
	}
}

func (r *reserve) allocate(start, end int64) {
	if !r.off {
		r.off = unix.Fallocate(int(r.file.Fd()), 0, start, end-start) != nil
	}
}
