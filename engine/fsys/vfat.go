package fsys

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"b9/engine/size"
)

// VFATOptions describe a new FAT file system.
type VFATOptions struct {
	// Label is at most 11 bytes of ASCII.
	Label string
	// Size of the file in bytes; 0 is the smallest that holds the files.
	Size int64
	// Free bytes are left over when Size is 0.
	Free int64
	// Bits is the width of the allocation table: 12, 16 or 32. 0 takes 12 below
	// 4 MiB, 16 below 512 MiB, 32 above.
	Bits int
	// VolumeID is derived from names, sizes and times when 0.
	VolumeID uint32
	// Time of files that bring none. FAT holds 1980 to 2107; others are clamped.
	Time time.Time
}

const (
	fatSector   = 512
	fatTrack    = 32 // sectors; the file system has whole tracks
	fatMaxFile  = 1<<32 - 1
	fatMaxDir   = 65536 // entries
	fatReserved = 1     // boot sector
	fat32Head   = 32    // reserved sectors with their copies
)

// MakeVFAT makes a FAT file system with long names in a new file at path and
// puts files into it, following Microsoft's FAT specification 1.03. Times are
// UTC. The same options and files give the same bytes. Owners, modes (but for
// write protection) and extended attributes are not stored; anything but files
// and directories, names that differ only in case, and characters that Windows
// forbids are errors. On error path is removed unless it was there before.
func MakeVFAT(ctx context.Context, path string, o VFATOptions, files []File) error {
	return FillVFAT(ctx, path, o, FromFiles(files, o.Time))
}

// FillVFAT is MakeVFAT with content of any kind.
func FillVFAT(ctx context.Context, path string, o VFATOptions, content Content) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("vfat: %w", err)
	}
	defer content.close()
	t, err := content.load(ctx, filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("vfat: %w", err)
	}
	w := &fatWriter{ctx: ctx, o: o, tree: t, first: make(map[*inode]uint32)}
	if err := w.plan(); err != nil {
		return fmt.Errorf("vfat: %w", err)
	}
	if err := makeFile(path, w.write); err != nil {
		return fmt.Errorf("vfat: %w", err)
	}
	return nil
}

func (o *VFATOptions) check() error {
	if len(o.Label) > 11 {
		return fmt.Errorf("label %q is %d bytes long, vfat holds 11", o.Label, len(o.Label))
	}
	for _, c := range []byte(o.Label) {
		if c < 0x20 || c > 0x7e || strings.IndexByte(`"*+,./:;<=>?[\]|`, c) >= 0 {
			return fmt.Errorf("label %q holds the character %q, which vfat does not", o.Label, c)
		}
	}
	switch {
	case o.Bits != 0 && o.Bits != 12 && o.Bits != 16 && o.Bits != 32:
		return fmt.Errorf("an allocation table of %d bits is not 12, 16 or 32", o.Bits)
	case o.Size < 0 || o.Free < 0:
		return fmt.Errorf("size %d is negative", min(o.Size, o.Free))
	case o.Size != 0 && o.Size < fatTrack*fatSector:
		return fmt.Errorf("size %d is below the least, %s", o.Size, size.About(fatTrack*fatSector))
	case o.Size > 1<<32*fatSector:
		return fmt.Errorf("size %s is above vfat's limit, 2TiB", size.About(o.Size))
	}
	return nil
}

type fatWriter struct {
	ctx   context.Context
	o     VFATOptions
	tree  *tree
	dirs  []*fatDir // the root first, then in the order of the walk
	files []*inode
	geo   fatGeometry
	first map[*inode]uint32 // first cluster of files and directories
	ends  []uint32          // last cluster of every chain, ascending
	used  uint32            // clusters in use
}

// fatDir is a directory with its entries' short names.
type fatDir struct {
	ino     *inode
	parent  *fatDir
	entries []fatEntry
	slots   int // 32-byte entries
}

// plan names everything and chooses the geometry.
func (w *fatWriter) plan() error {
	root := &fatDir{ino: w.tree.root}
	if err := w.addDir(root, ""); err != nil {
		return err
	}
	if w.o.Label != "" {
		root.slots++
	}
	if root.slots > fatMaxDir {
		return errors.New("the root directory has too many entries")
	}
	g, err := w.geometry()
	if err != nil {
		return err
	}
	w.geo = g
	w.place()
	return nil
}

func (w *fatWriter) addDir(d *fatDir, p string) error {
	if err := checkEvery(w.ctx); err != nil {
		return err
	}
	w.dirs = append(w.dirs, d)
	if d.parent != nil {
		d.slots = 2
	}
	names := newFATNames()
	for _, e := range d.ino.entries {
		child := p + "/" + e.name
		if err := fatKind(e.ino); err != nil {
			return fmt.Errorf("%s: %w", child, err)
		}
		short, long, err := names.add(e.name)
		if err != nil {
			return fmt.Errorf("%s: %w", child, err)
		}
		d.entries = append(d.entries, fatEntry{ino: e.ino, short: short, long: long})
		d.slots += 1 + (len(long)+12)/13
		if e.ino.isDir() {
			if err := w.addDir(&fatDir{ino: e.ino, parent: d}, child); err != nil {
				return err
			}
			continue
		}
		if e.ino.size > 0 {
			w.files = append(w.files, e.ino)
		}
	}
	if d.slots > fatMaxDir {
		return fmt.Errorf("%s: a vfat directory holds %d entries, long names take several", p, fatMaxDir)
	}
	return nil
}

func fatKind(n *inode) error {
	switch {
	case !n.isDir() && !n.isRegular():
		return errors.New("vfat holds only files and directories")
	case n.isRegular() && n.links > 1:
		return errors.New("vfat has no hard links")
	case n.size > fatMaxFile:
		return fmt.Errorf("is %d bytes long, vfat holds files of %d", n.size, int64(fatMaxFile))
	}
	return nil
}

// place gives every chain its clusters, without gaps.
func (w *fatWriter) place() {
	next, size := uint32(2), int64(w.geo.perCluster*fatSector)
	take := func(n *inode, length int64) {
		w.first[n] = next
		next += uint32(max(1, (length+size-1)/size))
		w.ends = append(w.ends, next-1)
	}
	for i, d := range w.dirs {
		if i > 0 || w.geo.bits == 32 {
			take(d.ino, int64(d.slots)*32)
		}
	}
	for _, f := range w.files {
		take(f, f.size)
	}
	w.used = next - 2
}

// clusterAt is the byte offset of a cluster.
func (w *fatWriter) clusterAt(c uint32) int64 {
	g := &w.geo
	return int64((g.reserved + g.fats*g.fatSectors + g.rootSectors() + uint64(c-2)*g.perCluster) * fatSector)
}

func (w *fatWriter) write(f *os.File) error {
	size := w.o.Size
	if size == 0 {
		size = int64(w.geo.sectors * fatSector)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := w.writeHead(f); err != nil {
		return err
	}
	for i := range w.geo.fats {
		at := int64((w.geo.reserved + i*w.geo.fatSectors) * fatSector)
		if err := w.writeTable(io.NewOffsetWriter(f, at)); err != nil {
			return err
		}
	}
	for i, d := range w.dirs {
		at := int64((w.geo.reserved + w.geo.fats*w.geo.fatSectors) * fatSector)
		if i > 0 || w.geo.bits == 32 {
			at = w.clusterAt(w.first[d.ino])
		}
		if _, err := f.WriteAt(w.dirBytes(d), at); err != nil {
			return err
		}
	}
	buf := make([]byte, 256<<10)
	for _, n := range w.files {
		if err := copySource(w.ctx, f, w.clusterAt(w.first[n]), n, buf); err != nil {
			return fmt.Errorf("%s: %w", n.origin, err)
		}
	}
	return nil
}

// volumeID comes from the content unless it was given.
func (w *fatWriter) volumeID() uint32 {
	if w.o.VolumeID != 0 {
		return w.o.VolumeID
	}
	d := w.tree.digest()
	return max(1, binary.LittleEndian.Uint32(d[:]))
}

// label11 is the padded label, "NO NAME" without one.
func (w *fatWriter) label11() []byte {
	label := w.o.Label
	if label == "" {
		label = "NO NAME"
	}
	return []byte(fmt.Sprintf("%-11s", label))
}

// writeHead writes the boot sector and for 32 bits its copy and FSInfo.
func (w *fatWriter) writeHead(f *os.File) error {
	boot := w.bootSector()
	if _, err := f.WriteAt(boot, 0); err != nil || w.geo.bits != 32 {
		return err
	}
	le := binary.LittleEndian
	info := make([]byte, fatSector)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(w.geo.clusters)-w.used)
	le.PutUint32(info[492:], w.used+1)
	info[510], info[511] = 0x55, 0xaa
	for at, b := range map[int64][]byte{1: info, 6: boot, 7: info} {
		if _, err := f.WriteAt(b, at*fatSector); err != nil {
			return err
		}
	}
	return nil
}

func (w *fatWriter) bootSector() []byte {
	le, g := binary.LittleEndian, &w.geo
	b := make([]byte, fatSector)
	ext := b[36:]
	copy(b, []byte{0xeb, 0x3c, 0x90})
	if g.bits == 32 {
		b[1], ext = 0x58, b[64:]
		le.PutUint32(b[36:], uint32(g.fatSectors))
		le.PutUint32(b[44:], uint32(g.rootCluster))
		le.PutUint16(b[48:], 1) // FSInfo
		le.PutUint16(b[50:], 6) // the copy
	} else {
		le.PutUint16(b[22:], uint16(g.fatSectors))
	}
	copy(b[3:], "b9      ")
	le.PutUint16(b[11:], fatSector)
	b[13], b[16], b[21] = byte(g.perCluster), byte(g.fats), 0xf8
	le.PutUint16(b[14:], uint16(g.reserved))
	le.PutUint16(b[17:], uint16(g.rootEntries))
	if g.sectors < 1<<16 && g.bits != 32 {
		le.PutUint16(b[19:], uint16(g.sectors))
	} else {
		le.PutUint32(b[32:], uint32(g.sectors))
	}
	le.PutUint16(b[24:], fatTrack)
	le.PutUint16(b[26:], 64) // heads
	ext[0], ext[2] = 0x80, 0x29
	le.PutUint32(ext[3:], w.volumeID())
	copy(ext[7:], w.label11())
	copy(ext[18:], fmt.Sprintf("FAT%-5d", g.bits))
	// Boot code: give the BIOS its turn back (int 0x18), then wait.
	copy(ext[26:], []byte{0xcd, 0x18, 0xf4, 0xeb, 0xfd})
	b[510], b[511] = 0x55, 0xaa
	return b
}

// writeTable writes one allocation table up to the last cluster in use; the
// rest is zeros already.
func (w *fatWriter) writeTable(out io.Writer) error {
	bw := bufio.NewWriterSize(out, 64<<10)
	t := tablePacker{w: bw, bits: w.geo.bits}
	last := uint32(1)<<w.geo.bits - 1
	if w.geo.bits == 32 {
		last = 1<<28 - 1
	}
	t.put(last&^0xff | 0xf8)
	t.put(last)
	chain := 0
	for c := uint32(2); c < w.used+2; c++ {
		value := c + 1
		if c == w.ends[chain] {
			value, chain = last, chain+1
		}
		t.put(value)
	}
	t.finish()
	return bw.Flush()
}

// tablePacker packs entries of 12, 16 or 32 bits.
type tablePacker struct {
	w    *bufio.Writer
	bits int
	acc  uint64
	have int
}

// put cannot fail: bufio keeps the first error for Flush.
func (t *tablePacker) put(v uint32) {
	t.acc |= uint64(v) << t.have
	for t.have += t.bits; t.have >= 8; t.have -= 8 {
		_ = t.w.WriteByte(byte(t.acc))
		t.acc >>= 8
	}
}

func (t *tablePacker) finish() {
	if t.have > 0 {
		_ = t.w.WriteByte(byte(t.acc))
	}
}
