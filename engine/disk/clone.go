package disk

import (
	"os"

	"golang.org/x/sys/unix"
)

// cloneParts makes w, from the offset at on, share the blocks of src that lie in
// raw files, as far as the file system can, and returns an image of the same
// size that has only the rest: the odd end of a part, a part at another place
// in its block, or everything.
func cloneParts(w *os.File, at int64, src Image) Image {
	parts := []part{{length: src.Size(), img: src}}
	if j, ok := src.(*joined); ok {
		parts = j.parts
	}
	rest := &joined{size: src.Size(), parts: make([]part, 0, len(parts))}
	cloned := false
	for _, p := range parts {
		n := clonePart(w, at, p)
		cloned = cloned || n > 0
		p.start, p.off, p.length = p.start+n, p.off+n, p.length-n
		rest.parts = append(rest.parts, p)
	}
	if !cloned {
		return src
	}
	return rest
}

// clonePart returns how many first bytes of a part w shares now. The call wants
// both offsets and the length in whole blocks of the file system; where these
// are larger than rawUnit, or there is no such call, it changes nothing.
func clonePart(w *os.File, at int64, p part) int64 {
	r, ok := p.img.(*rawImage)
	at += p.start
	n := min(p.length, p.img.Size()-p.off) / rawUnit * rawUnit
	if !ok || n <= 0 || at%rawUnit != 0 || p.off%rawUnit != 0 || !r.plain() {
		return 0
	}
	err := unix.IoctlFileCloneRange(int(w.Fd()), &unix.FileCloneRange{
		Src_fd: int64(r.file.Fd()), Src_offset: uint64(p.off), Src_length: uint64(n), Dest_offset: uint64(at),
	})
	if err != nil {
		return 0
	}
	return n
}

// cloneFile makes w share all blocks of r, and reports whether that was possible.
func cloneFile(w *os.File, r *rawImage) bool {
	return r.plain() && unix.IoctlFileClone(int(w.Fd()), int(r.file.Fd())) == nil
}

// plain reports whether r is a regular file that is still as long as it was.
func (r *rawImage) plain() bool {
	info, err := r.file.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() == r.size
}
