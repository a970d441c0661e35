package fsys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf16"
)

// Info is what a superblock says.
type Info struct {
	// Type is ext2, ext3, ext4, xfs, btrfs, vfat, iso9660, squashfs, swap, or
	// "" when none of them was recognised.
	Type  string
	Label string
	// UUID as blkid prints it: lower case, with dashes; XXXX-XXXX for vfat; the
	// creation time for iso9660.
	UUID string
	// Size of the file system in bytes by its own account, 0 if it does not tell.
	Size int64
	// BlockSize in bytes, 0 if unknown.
	BlockSize int64
	// Free bytes, -1 if the superblock does not tell, 0 for read-only types.
	Free int64
}

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

// window is the stretch of a file that is looked at.
type window struct {
	r         io.ReaderAt
	off, size int64
}

// at returns n bytes, or zeros where the window is too short for them.
func (w *window) at(off int64, n int) ([]byte, error) {
	b := make([]byte, n)
	if off < 0 || off+int64(n) > w.size {
		return b, nil
	}
	if _, err := w.r.ReadAt(b, w.off+off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

func uuidText(b []byte) string {
	if isZero(b[:16]) {
		return ""
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// clip keeps a size that a hostile superblock made up from being negative.
func clip(blocks, size uint64) int64 {
	if size != 0 && blocks > uint64(1<<63-1)/size {
		return 1<<63 - 1
	}
	return int64(blocks * size)
}

func probeExt(w *window) (Info, error) {
	sb, err := w.at(extSuperAt, extSuperSize)
	if err != nil {
		return Info{}, err
	}
	l, err := parseExtSuper(sb)
	if err != nil || l.incompat&incompatJournalDev != 0 {
		return Info{}, nil
	}
	kind := "ext2"
	switch {
	case l.incompat&^uint32(0x6|incompatMetaBG) != 0 || l.ro&^uint32(0x7) != 0:
		kind = "ext4" // features that ext3 does not have
	case l.compat&compatJournal != 0:
		kind = "ext3"
	}
	return Info{Type: kind, Label: l.label(), UUID: uuidText(l.uuid), Size: l.size(),
		BlockSize: int64(l.blockSize), Free: clip(min(l.freeBlocks(), l.blocks), uint64(l.blockSize))}, nil
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

func probeSquashfs(w *window) (Info, error) {
	b, err := w.at(0, 96)
	if err != nil || string(b[:4]) != "hsqs" || binary.LittleEndian.Uint16(b[28:]) != 4 {
		return Info{}, err
	}
	le := binary.LittleEndian
	return Info{Type: "squashfs", Size: clip(le.Uint64(b[40:]), 1), BlockSize: int64(le.Uint32(b[12:]))}, nil
}

// probeSwap looks for the signature at the end of the first page, whose size
// is the machine's that made it.
func probeSwap(w *window) (Info, error) {
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		sig, err := w.at(page-10, 10)
		if err != nil {
			return Info{}, err
		}
		if string(sig) != "SWAPSPACE2" {
			continue
		}
		b, err := w.at(1024, 44)
		if err != nil {
			return Info{}, err
		}
		pages := uint64(binary.LittleEndian.Uint32(b[4:])) + 1
		return Info{Type: "swap", UUID: uuidText(b[12:]), Label: cString(b[28:44]),
			Size: clip(pages, uint64(page)), BlockSize: page, Free: -1}, nil
	}
	return Info{}, nil
}

// probeISO reads volume descriptors (ECMA-119, 8.4) up to the terminator.
func probeISO(w *window) (Info, error) {
	var info Info
	for n := int64(16); n < 64; n++ {
		b, err := w.at(n*2048, 2048)
		if err != nil {
			return Info{}, err
		}
		if string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && info.Type == "":
			bs := int64(binary.LittleEndian.Uint16(b[128:]))
			info = Info{Type: "iso9660", Label: strings.TrimRight(string(b[40:72]), " \x00"), BlockSize: bs,
				Size: int64(binary.LittleEndian.Uint32(b[80:])) * bs, UUID: isoUUID(b[813:830])}
		case b[0] == 2 && info.Type != "" && bytes.HasPrefix(b[88:], []byte("%/")):
			// Joliet holds the longer name where the first was cut or folded.
			if long := utf16BE(b[40:72]); strings.EqualFold(strings.ReplaceAll(long, " ", "_"), info.Label) {
				info.Label = long
			}
		}
	}
	return info, nil
}

func isoUUID(d []byte) string {
	for _, c := range d[:16] {
		if c < '0' || c > '9' {
			return ""
		}
	}
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", d[:4], d[4:6], d[6:8], d[8:10], d[10:12], d[12:14], d[14:16])
}

func utf16BE(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u = append(u, binary.BigEndian.Uint16(b[i:]))
	}
	return strings.TrimRight(string(utf16.Decode(u)), " \x00")
}

// probeVFAT accepts a boot sector whose whole BIOS parameter block is
// consistent (Microsoft's FAT specification 1.03): there is no magic.
func probeVFAT(w *window) (Info, error) {
	b, err := w.at(0, 512)
	if err != nil {
		return Info{}, err
	}
	g, ok := parseBPB(b)
	if !ok {
		return Info{}, nil
	}
	info := Info{Type: "vfat", Size: clip(g.sectors, g.sectorSize), BlockSize: int64(g.sectorSize * g.perCluster), Free: -1}
	ext := b[36:]
	if g.bits == 32 {
		ext = b[64:]
	}
	if ext[2] == 0x29 || ext[2] == 0x28 {
		serial := binary.LittleEndian.Uint32(ext[3:])
		info.UUID = fmt.Sprintf("%04X-%04X", serial>>16, serial&0xffff)
	}
	if ext[2] == 0x29 {
		info.Label = strings.TrimRight(string(ext[7:18]), " \x00")
	}
	if label, err := fatRootLabel(w, g); err != nil || label != "" {
		info.Label = label
		return info, err
	}
	if info.Label == "NO NAME" {
		info.Label = ""
	}
	return info, nil
}

// fatRootLabel looks for the volume's entry in the first sectors of the root.
func fatRootLabel(w *window, g fatGeometry) (string, error) {
	start, n := (g.reserved+g.fats*g.fatSectors)*g.sectorSize, min(g.rootEntries*32, 64<<10)
	if g.bits == 32 {
		if g.rootCluster < 2 || g.rootCluster-2 >= g.clusters {
			return "", nil
		}
		start += (g.rootCluster - 2) * g.perCluster * g.sectorSize
		n = min(g.perCluster*g.sectorSize, 64<<10)
	}
	b, err := w.at(int64(start), int(n))
	if err != nil {
		return "", err
	}
	for ; len(b) >= 32 && b[0] != 0; b = b[32:] {
		if b[11]&0x3f == 0x08 && b[0] != 0xe5 {
			return strings.TrimRight(string(b[:11]), " "), nil
		}
	}
	return "", nil
}
