package image

import (
	"os"

	"golang.org/x/sys/unix"
)

// CloneParts makes w, from the offset at on, share the blocks of src that lie in
// raw files, as far as the file system can, and returns an image of the same
// size that has only the rest: the odd end of a part, a part at another place
// in its block, or everything.
func CloneParts(w *os.File, at int64, src Image) Image {
	parts := []Part{{Length: src.Size(), Img: src}}
	if j, ok := src.(*Joined); ok {
		parts = j.Parts
	}
	rest := &Joined{Length: src.Size(), Parts: make([]Part, 0, len(parts))}
	cloned := false
	for _, p := range parts {
		n := clonePart(w, at, p)
		cloned = cloned || n > 0
		p.Start, p.Off, p.Length = p.Start+n, p.Off+n, p.Length-n
		rest.Parts = append(rest.Parts, p)
	}
	if !cloned {
		return src
	}
	return rest
}

// clonePart returns how many first bytes of a part w shares now. The call wants
// both offsets and the length in whole blocks of the file system; where these
// are larger than RawUnit, or there is no such call, it changes nothing.
func clonePart(w *os.File, at int64, p Part) int64 {
	r, ok := p.Img.(*File)
	at += p.Start
	n := min(p.Length, p.Img.Size()-p.Off) / RawUnit * RawUnit
	if !ok || n <= 0 || at%RawUnit != 0 || p.Off%RawUnit != 0 || !r.plain() {
		return 0
	}
	err := unix.IoctlFileCloneRange(int(w.Fd()), &unix.FileCloneRange{
		Src_fd: int64(r.File.Fd()), Src_offset: uint64(p.Off), Src_length: uint64(n), Dest_offset: uint64(at),
	})
	if err != nil {
		return 0
	}
	return n
}

// CloneFile makes w share all blocks of r, and reports whether that was possible.
func CloneFile(w *os.File, r *File) bool {
	return r.plain() && unix.IoctlFileClone(int(w.Fd()), int(r.File.Fd())) == nil
}

// plain reports whether r is a regular file that is still as long as it was.
func (r *File) plain() bool {
	info, err := r.File.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() == r.Length
}
