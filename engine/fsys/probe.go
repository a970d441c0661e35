package fsys

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
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
		probeXFS, squashfs.Probe, probeBtrfs, mkfs.ProbeEROFS, mkfs.ProbeF2FS, ext4.Probe, swap.Probe, iso9660.Probe, vfat.Probe,
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

func probeXFS(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 0, 512)
	if err != nil || string(b[:4]) != "XFSB" {
		return tree.Info{}, err
	}
	be := binary.BigEndian
	bs := uint64(be.Uint32(b[4:]))
	if bs < 512 || bs > 65536 || bs&(bs-1) != 0 {
		return tree.Info{}, nil
	}
	return tree.Info{Type: "xfs", Label: volume.Text(b[108:120]), UUID: ident.Text(b[32:]), BlockSize: int64(bs),
		Size: volume.Bytes(be.Uint64(b[8:]), bs), Free: volume.Bytes(be.Uint64(b[144:]), bs)}, nil
}

func probeBtrfs(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 64<<10, 1024)
	if err != nil || string(b[64:72]) != "_BHRfS_M" {
		return tree.Info{}, err
	}
	le := binary.LittleEndian
	total, used := le.Uint64(b[0x70:]), le.Uint64(b[0x78:])
	return tree.Info{Type: "btrfs", Label: volume.Text(b[0x12b:0x22b]), UUID: ident.Text(b[0x20:]),
		Size: volume.Bytes(total, 1), BlockSize: int64(le.Uint32(b[0x90:])), Free: volume.Bytes(total-min(used, total), 1)}, nil
}

func nameOf(kind string) string {
	if kind == "" {
		return "a file without a known file system"
	}
	return kind
}
