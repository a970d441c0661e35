package fsys

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// Probe recognises the file system in length bytes from offset off of the file
// at path; length 0 reaches to the file's end. It reads superblocks only. A
// damaged superblock is not recognised; an error is a failed read.
func Probe(path string, off, length int64) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return Info{}, err
	}
	if off < 0 || off > size || length < 0 || length > size-off {
		return Info{}, fmt.Errorf("probe %s: bytes %d to %d are outside of the file's %d", path, off, off+length, size)
	}
	if length == 0 {
		length = size - off
	}
	info, err := probe(f, off, length)
	if err != nil {
		return Info{}, fmt.Errorf("probe %s: %w", path, err)
	}
	return info, nil
}

// probers in the order in which they are asked: the surest magic first, vfat,
// which has none, last.
func probers() []func(*window) (Info, error) {
	return []func(*window) (Info, error){
		probeXFS, probeSquashfs, probeBtrfs, probeExt, probeSwap, probeISO, probeVFAT,
	}
}

func probe(r io.ReaderAt, off, length int64) (Info, error) {
	w := &window{r: r, off: off, size: length}
	for _, p := range probers() {
		info, err := p(w)
		if err != nil {
			return Info{}, err
		}
		if info.Type != "" {
			return info, nil
		}
	}
	return Info{Free: -1}, nil
}

func probeXFS(w *window) (Info, error) {
	b, err := w.at(0, 512)
	if err != nil || string(b[:4]) != "XFSB" {
		return Info{}, err
	}
	be := binary.BigEndian
	bs := uint64(be.Uint32(b[4:]))
	if bs < 512 || bs > 65536 || bs&(bs-1) != 0 {
		return Info{}, nil
	}
	return Info{Type: "xfs", Label: cString(b[108:120]), UUID: uuidText(b[32:]), BlockSize: int64(bs),
		Size: clip(be.Uint64(b[8:]), bs), Free: clip(be.Uint64(b[144:]), bs)}, nil
}

func probeBtrfs(w *window) (Info, error) {
	b, err := w.at(64<<10, 1024)
	if err != nil || string(b[64:72]) != "_BHRfS_M" {
		return Info{}, err
	}
	le := binary.LittleEndian
	total, used := le.Uint64(b[0x70:]), le.Uint64(b[0x78:])
	return Info{Type: "btrfs", Label: cString(b[0x12b:0x22b]), UUID: uuidText(b[0x20:]),
		Size: clip(total, 1), BlockSize: int64(le.Uint32(b[0x90:])), Free: clip(total-min(used, total), 1)}, nil
}

func nameOf(kind string) string {
	if kind == "" {
		return "a file without a known file system"
	}
	return kind
}
