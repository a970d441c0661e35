package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Reader gives the files inside an image. Names follow io/fs: slashes, no
// leading one, "." is the root. Open, Stat and ReadDir follow symbolic links
// within the image, whose root is "/" to them; Lstat and ReadLink do not follow
// the last one. It is not safe for concurrent use.
//
// Sys of a FileInfo is an *Attr. A regular file that Open returns is also an
// io.ReaderAt and an io.Seeker.
type Reader interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
	// Type is the file system's, as in Info.
	Type() string
	// Xattrs are the extended attributes of the object called name, a link
	// itself included, by full name. nil where there are none.
	Xattrs(name string) (map[string]string, error)
	io.Closer
}

// OpenReader reads the ext2/3/4, vfat, iso9660 or squashfs file system in
// length bytes from offset off of the file at path; length 0 reaches to the
// file's end.
func OpenReader(path string, off, length int64) (Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in, err := sectionOf(f, off, length)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	v, err := openVolume(in)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", path, err), f.Close())
	}
	return &imageFS{v: v, closer: f}, nil
}

// NewReader is OpenReader on the first size bytes of r, such as a disk image in
// any format. The caller closes r after the Reader.
func NewReader(r io.ReaderAt, size int64) (Reader, error) {
	v, err := openVolume(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	return &imageFS{v: v}, nil
}

// ProbeAt is Probe on the first size bytes of r.
func ProbeAt(r io.ReaderAt, size int64) (Info, error) { return probe(r, 0, size) }

func sectionOf(f *os.File, off, length int64) (*io.SectionReader, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if off < 0 || off > size || length < 0 || length > size-off {
		return nil, fmt.Errorf("bytes %d to %d are outside of the file's %d", off, off+length, size)
	}
	if length == 0 {
		length = size - off
	}
	return io.NewSectionReader(f, off, length), nil
}

// openVolume recognises a file system and opens it.
func openVolume(in *io.SectionReader) (volume, error) {
	info, err := probe(in, 0, in.Size())
	if err != nil {
		return nil, err
	}
	p := newPages(in)
	switch info.Type {
	case "ext2", "ext3", "ext4":
		return openExt(p, info.Type)
	case "vfat":
		return openFAT(p)
	case "iso9660":
		return openISO(p)
	case "squashfs":
		return openSquash(in, p)
	}
	return nil, fmt.Errorf("it holds %s, which cannot be read (ext2, ext3, ext4, vfat, iso9660 and squashfs can)", nameOf(info.Type))
}
