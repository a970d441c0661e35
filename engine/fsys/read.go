package fsys

import (
	"fmt"
	"io"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/fsys/xfs"
)

// NewReader reads the ext2/3/4, xfs, btrfs, vfat, iso9660 or squashfs file system in the
// first size bytes of r, such as a disk image in any format. r stays open as
// long as the Reader is in use.
func NewReader(r io.ReaderAt, size int64) (tree.Reader, error) {
	in := io.NewSectionReader(r, 0, size)
	info, err := probe(in)
	if err != nil {
		return nil, err
	}
	v, err := open(volume.NewPages(in), info.Type)
	if err != nil {
		return nil, err
	}
	return volume.New(v, info.Type), nil
}

func open(p *volume.Pages, kind string) (volume.Volume, error) {
	switch kind {
	case "ext2", "ext3", "ext4":
		return ext4.Open(p)
	case "vfat":
		return vfat.Open(p)
	case "iso9660":
		return iso9660.Open(p)
	case "squashfs":
		return squashfs.Open(p)
	case xfs.Kind:
		return xfs.Open(p)
	case btrfs.Kind:
		return btrfs.Open(p)
	}
	return nil, fmt.Errorf("it holds %s, which cannot be read (ext2, ext3, ext4, xfs, btrfs, vfat, iso9660 and squashfs can)", nameOf(kind))
}
