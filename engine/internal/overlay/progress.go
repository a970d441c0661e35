package overlay

import (
	"sync/atomic"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"
)

// progress counts a file's requests, in the server. Where some have begun and none
// ends, the server hangs.
type progress struct {
	begun, ended atomic.Int64
}

func (p *progress) begin() { p.begun.Add(1) }
func (p *progress) end()   { p.ended.Add(1) }

// report is what the server says of a file. The requests that have ended are counted first:
// where both numbers are the same, there was a moment without one.
func (p *progress) report() (m message) {
	m.Ended = p.ended.Load()
	m.Begun = p.begun.Load()
	return m
}

// spliced is a result whose bytes are read only when the answer is written, when its request
// ends.
type spliced struct {
	gofuse.ReadResult
	of  *progress
	fd  uintptr
	off int64
}

func (p *progress) spliced(fd uintptr, off int64, size int) gofuse.ReadResult {
	p.begin()
	return spliced{gofuse.ReadResultFd(fd, off, size), p, fd, off}
}

// Seekable tells go-fuse what to splice.
func (s spliced) Seekable() (fd uintptr, off int64, size int) { return s.fd, s.off, s.Size() }

// Done implements gofuse.ReadResult.
func (s spliced) Done() {
	s.ReadResult.Done()
	s.of.end()
}
