package volume

import (
	"io"
)

// Extents is the data of a file that lies in an image in runs, uncompressed. It is
// an io.ReaderAt and a tree.HoleSkipper.
type Extents struct {
	Pages *Pages
	Size  int64 // bytes
	// Run says where byte off of the file lies in the image, and how many bytes, at
	// least 1, follow each other from there; at is Hole where they are zeros. It
	// need not look further than want bytes.
	Run func(off, want int64) (at, n int64, err error)
}

// Hole is where zeros lie that an image does not hold.
const Hole = -1

// ReadAt reads to the end of the file at most.
func (e *Extents) ReadAt(b []byte, off int64) (int, error) {
	if off >= e.Size {
		return 0, io.EOF
	}
	var end error
	if left := e.Size - off; int64(len(b)) > left {
		b, end = b[:left], io.EOF
	}
	for done := 0; done < len(b); {
		at, n, err := e.Run(off+int64(done), int64(len(b)-done))
		if err != nil {
			return done, err
		}
		part := b[done:min(int64(len(b)), int64(done)+n)]
		if at == Hole {
			clear(part)
		} else if _, err := e.Pages.ReadAt(part, at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(b), end
}

// NextData skips holes.
func (e *Extents) NextData(off int64) (int64, error) {
	for off < e.Size {
		at, n, err := e.Run(off, 1)
		if err != nil || at != Hole {
			return off, err
		}
		off += n
	}
	return e.Size, nil
}
