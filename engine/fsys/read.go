package fsys

import (
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// OpenReader reads the ext2/3/4, vfat, iso9660 or squashfs file system in
// length bytes from offset off of the file at path; length 0 reaches to the
// file's end.
func OpenReader(path string, off, length int64) (tree.Reader, error) {
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
func NewReader(r io.ReaderAt, size int64) (tree.Reader, error) {
	v, err := openVolume(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	return &imageFS{v: v}, nil
}

// ProbeAt is Probe on the first size bytes of r.
func ProbeAt(r io.ReaderAt, size int64) (tree.Info, error) { return probe(r, 0, size) }

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
func openVolume(in *io.SectionReader) (tree.Volume, error) {
	info, err := probe(in, 0, in.Size())
	if err != nil {
		return nil, err
	}
	p := tree.NewPages(in)
	switch info.Type {
	case "ext2", "ext3", "ext4":
		return ext4.Open(p, info.Type)
	case "vfat":
		return vfat.Open(p)
	case "iso9660":
		return iso9660.Open(p)
	case "squashfs":
		return squashfs.Open(in, p)
	}
	return nil, fmt.Errorf("it holds %s, which cannot be read (ext2, ext3, ext4, vfat, iso9660 and squashfs can)", nameOf(info.Type))
}
