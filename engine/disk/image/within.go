package image

import "io"

// Within is img with holes everywhere but in the parts [from, to), which are in order and
// don't touch each other: for those who look at two images and know that these differ
// nowhere else. What lies outside of the parts is not read. Its Close is img's.
func Within(img Image, parts [][2]int64) Image { return within{img, parts} }

type within struct {
	Image
	parts [][2]int64
}

// next is the first part that ends behind off, where there is none an empty one at the end.
func (w within) next(off int64) (from, to int64) {
	size := w.Size()
	for lo, hi := 0, len(w.parts); ; {
		if lo == hi {
			if lo == len(w.parts) || w.parts[lo][0] >= size {
				return size, size
			}
			return w.parts[lo][0], min(w.parts[lo][1], size)
		}
		if mid := (lo + hi) / 2; w.parts[mid][1] > off {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
}

// Extent implements Image.
func (w within) Extent(off int64) (Extent, error) {
	from, to := w.next(off)
	if off < 0 || off >= w.Size() {
		return Extent{}, io.EOF
	}
	if off < from {
		return Extent{Start: off, Length: from - off, State: Hole}, nil
	}
	e, err := w.Image.Extent(off)
	e.Length = min(e.Length, to-off)
	return e, err
}

// ReadAt implements Image.
func (w within) ReadAt(b []byte, off int64) (n int, err error) {
	for off >= 0 && n < len(b) && off+int64(n) < w.Size() {
		at := off + int64(n)
		from, to := w.next(at)
		rest := b[n:]
		if at < from {
			rest = rest[:min(int64(len(rest)), from-at)]
			clear(rest)
			n += len(rest)
			continue
		}
		rest = rest[:min(int64(len(rest)), to-at)]
		if m, err := w.Image.ReadAt(rest, at); m < len(rest) {
			return n + m, err
		}
		n += len(rest)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}
