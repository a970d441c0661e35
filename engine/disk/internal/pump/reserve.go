package pump

import (
	"os"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
)

// What is worth reserving, in bytes.
const (
	reserveStep = 64 << 20  // by which the room of a growing file is extended
	reserveFrom = 8 << 20   // a file that grows and is smaller is not worth it
	reserveRun  = 128 << 10 // nor is a shorter run
)

// reserve asks the file system for room before it is written, which saves the
// kernel work at each write. A failure is left to the write to report.
type reserve struct {
	file *os.File
	done int64 // offset up to which a growing file has room
	off  bool  // it does not work here
}

// Growth returns a function for Job.Reserve that reserves room for a file that
// grows at its end, from the offset from on. The writer truncates it in the end.
// A file of which no block waits to be allocated replaces another one at once: ext4
// writes out the others first.
func Growth(f *os.File, from int64) func([]Unit) {
	r := &reserve{file: f, done: from}
	return func(units []Unit) {
		end := int64(0)
		for _, u := range units {
			end = max(end, u.At+int64(len(u.Body)))
		}
		if end-from < reserveFrom || end <= r.done {
			return
		}
		end = image.RoundUp(end, reserveStep)
		r.allocate(r.done, end)
		r.done = end
	}
}

// Runs returns a function for Job.Reserve that reserves the room of long runs of
// units which are written where they are in the image.
func Runs(f *os.File) func([]Unit) {
	r := &reserve{file: f}
	return func(units []Unit) {
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
}

func (r *reserve) allocate(start, end int64) {
	if !r.off {
		r.off = unix.Fallocate(int(r.file.Fd()), 0, start, end-start) != nil
	}
}
