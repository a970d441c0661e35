package fsys

import (
	"fmt"
	"io"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// NewReader reads the ext2/3/4, vfat, iso9660 or squashfs file system in the
// first size bytes of r, such as a disk image in any format. r stays open as
// long as the Reader is in use.
func NewReader(r io.ReaderAt, size int64) (tree.Reader, error) {
	v, err := open(io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	return volume.New(v), nil
}

// open recognises a file system and opens it.
func open(in *io.SectionReader) (volume.Volume, error) {
	info, err := probe(in)
	if err != nil {
		return nil, err
	}
	p := volume.NewPages(in)
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
