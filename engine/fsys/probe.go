package fsys

import (
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/fsys/xfs"
)

// Probe recognises the file system in length bytes from offset off of the file
// at path; length 0 reaches to the file's end. It reads superblocks only. A
// damaged superblock is not recognised; an error is a failed read.
func Probe(path string, off, length int64) (tree.Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return tree.Info{}, err
	}
	defer f.Close()
	info, err := probeFile(f, off, length)
	if err != nil {
		return tree.Info{}, fmt.Errorf("probe %s: %w", path, err)
	}
	return info, nil
}

func probeFile(f *os.File, off, length int64) (tree.Info, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return tree.Info{}, err
	}
	if off < 0 || off > size || length < 0 || length > size-off {
		return tree.Info{}, fmt.Errorf("bytes %d to %d are outside of the file's %d", off, off+length, size)
	}
	if length == 0 {
		length = size - off
	}
	return probe(io.NewSectionReader(f, off, length))
}

// ProbeAt is Probe on the first size bytes of r.
func ProbeAt(r io.ReaderAt, size int64) (tree.Info, error) {
	return probe(io.NewSectionReader(r, 0, size))
}

// probers in the order in which they are asked: the surest magic first, vfat,
// which has none, last.
func probers() []func(*io.SectionReader) (tree.Info, error) {
	return []func(*io.SectionReader) (tree.Info, error){
		xfs.Probe, squashfs.Probe, btrfs.Probe, mkfs.ProbeEROFS, mkfs.ProbeF2FS, ext4.Probe, swap.Probe, iso9660.Probe, vfat.Probe,
	}
}

func probe(r *io.SectionReader) (tree.Info, error) {
	for _, p := range probers() {
		if info, err := p(r); err != nil || info.Type != "" {
			return info, err
		}
	}
	return tree.Info{Free: -1}, nil
}

func nameOf(kind string) string {
	if kind == "" {
		return "a file without a known file system"
	}
	return kind
}
