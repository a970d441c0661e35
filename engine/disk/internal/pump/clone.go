package pump

import (
	"context"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
)

// rawUnit is the granularity in bytes at which a raw file is kept sparse.
const rawUnit = 4096

// Copy writes the data of src to w, from the offset at on, where w reads as zero
// and is large enough. Parts of src that lie in raw files share their blocks with
// w, where the file system can.
func Copy(ctx context.Context, w *os.File, at int64, src image.Image, progress func(done, total int64)) error {
	j := Job{Src: cloneParts(w, at, src), Out: w, Unit: rawUnit, Progress: progress, Reserve: Runs(w)}
	j.Place = func(u *Unit) error {
		u.At = at + u.Off
		u.Body = u.Body[:min(int64(len(u.Body)), src.Size()-u.Off)]
		return nil
	}
	return j.Run(ctx)
}

// hostFile is an image of all bytes of a file of the host, as raw images are.
type hostFile interface {
	image.Image
	Fd() uintptr
	Stat() (fs.FileInfo, error)
}

// regular returns img as the regular file that it is, as long as the image.
func regular(img image.Image) (hostFile, bool) {
	f, ok := img.(hostFile)
	if !ok {
		return nil, false
	}
	info, err := f.Stat()
	return f, err == nil && info.Mode().IsRegular() && info.Size() == img.Size()
}

// Clone makes the empty file w share all blocks of src, and reports whether that
// was possible.
func Clone(w *os.File, src image.Image) bool {
	f, ok := regular(src)
	return ok && unix.IoctlFileClone(int(w.Fd()), int(f.Fd())) == nil
}

// cloneParts makes w, from the offset at on, share the blocks of src that lie in
// raw files, as far as the file system can, and returns an image of the same
// size that has only the rest: the odd end of a part, a part at another place
// in its block, or everything.
func cloneParts(w *os.File, at int64, src image.Image) image.Image {
	parts := []image.Part{{Length: src.Size(), Img: src}}
	if j, ok := src.(*image.Joined); ok {
		parts = j.Parts
	}
	rest := &image.Joined{Length: src.Size(), Parts: make([]image.Part, 0, len(parts))}
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
// are larger than rawUnit, or there is no such call, it changes nothing.
func clonePart(w *os.File, at int64, p image.Part) int64 {
	at += p.Start
	n := min(p.Length, p.Img.Size()-p.Off) / rawUnit * rawUnit
	if n <= 0 || at%rawUnit != 0 || p.Off%rawUnit != 0 {
		return 0
	}
	f, ok := regular(p.Img)
	if !ok {
		return 0
	}
	err := unix.IoctlFileCloneRange(int(w.Fd()), &unix.FileCloneRange{
		Src_fd: int64(f.Fd()), Src_offset: uint64(p.Off), Src_length: uint64(n), Dest_offset: uint64(at),
	})
	if err != nil {
		return 0
	}
	return n
}
