// Package vfat makes and reads FAT12, FAT16 and FAT32 with long names, as
// Microsoft's FAT specification 1.03 describes them. It hides the choice of a
// geometry, the two names of every file, and the chains of clusters. It stores no
// owners, modes, links or attributes, since FAT has none, and changes no file
// system that is there.
//
//	Make, Options   a new file system with files in it; Least is the smallest
//	Probe, Open     a boot sector recognised; an image's files read
//
// Inside: geometry is what the BIOS parameter block says, for both ways; writer
// plans where everything lies and writes it, names makes the short names of a
// directory; reader, records and file read.
package vfat

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
)

// Options describe a new FAT file system.
type Options struct {
	// Label is at most 11 bytes of ASCII.
	Label string
	// Size of the file in bytes; 0 is the smallest that holds the files.
	Size int64
	// Free bytes are left over when Size is 0.
	Free int64
	// Bits is the width of the allocation table: 12, 16 or 32. 0 is 12 below
	// 8192 sectors, 16 below 512 MiB, 32 above.
	Bits int
	// Sector is 512 (default) or 4096 bytes, those of the disk it will lie on: a
	// kernel mounts no file system whose sectors are smaller than the disk's.
	Sector int
	// VolumeID is derived from names, sizes and times when 0.
	VolumeID uint32
	// Time of files that bring none. FAT holds 1980 to 2107; others are clamped.
	Time time.Time
}

const (
	bootSize  = 512 // bytes of the boot sector that mean something
	track     = 32  // sectors; the file system has whole tracks
	maxFile   = 1<<32 - 1
	maxDir    = 65536 // entries
	reserved  = 1     // boot sector
	fat32Head = 32    // reserved sectors with their copies

	maxCluster = 64 << 10 // bytes

	// Least is the smallest file system with sectors of 512 bytes, in bytes.
	Least = track * 512
)

// Make makes a FAT file system with long names in a new file at path and
// fills it with content (nil: empty), following Microsoft's FAT specification 1.03. Times are
// UTC. The same options and content give the same bytes. Owners, modes (but for
// write protection) and extended attributes are not stored; anything but files
// and directories, names that differ only in case, and characters that Windows
// forbids are errors. After an error path is what it was before.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	if content == nil {
		content = tree.FromFiles(nil, o.Time)
	}
	return tree.Make(ctx, path, "vfat", content, o.check, func(t *tree.Tree) (func(*os.File) error, error) {
		w := &writer{ctx: ctx, o: o, tree: t, first: make(map[*tree.Inode]uint32)}
		return w.write, w.plan()
	})
}

func (o *Options) check() error {
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
	case o.Sector != 0 && o.Sector != 512 && o.Sector != 4096:
		return fmt.Errorf("sectors of %d bytes are not 512 or 4096", o.Sector)
	case o.Size != 0 && o.Size < track*int64(o.sector()):
		return fmt.Errorf("size %d is below the least, %s", o.Size, size.About(track*int64(o.sector())))
	case o.Size > 1<<32*512:
		return fmt.Errorf("size %s is above vfat's limit, 2TiB", size.About(o.Size))
	}
	return nil
}

// sector is the size of a sector in bytes.
func (o *Options) sector() uint64 { return uint64(cmp.Or(o.Sector, 512)) }

type writer struct {
	ctx   context.Context
	o     Options
	tree  *tree.Tree
	dirs  []*dir // the root first, then in the order of the walk
	files []*tree.Inode
	geo   geometry
	first map[*tree.Inode]uint32 // first cluster of files and directories
	ends  []uint32               // last cluster of every chain, ascending
	used  uint32                 // clusters in use
}

// dir is a directory with its entries' short names.
type dir struct {
	inode   *tree.Inode
	parent  *dir
	entries []entry
	slots   int // 32-byte entries
}

// plan names everything and chooses the geometry.
func (w *writer) plan() error {
	root := &dir{inode: w.tree.Root}
	if err := w.addDir(root, ""); err != nil {
		return err
	}
	if w.o.Label != "" {
		root.slots++
	}
	if root.slots > maxDir {
		return errors.New("the root directory has too many entries")
	}
	g, err := w.geometry()
	if err != nil {
		return err
	}
	w.geo = g
	w.allocate()
	return nil
}

func (w *writer) addDir(d *dir, p string) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	w.dirs = append(w.dirs, d)
	if d.parent != nil {
		d.slots = 2
	}
	names := newNames()
	for _, e := range d.inode.Entries {
		child := p + "/" + e.Name
		if err := kind(e.Inode); err != nil {
			return fmt.Errorf("%s: %w", child, err)
		}
		short, long, err := names.add(e.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", child, err)
		}
		d.entries = append(d.entries, entry{inode: e.Inode, short: short, long: long})
		d.slots += 1 + (len(long)+12)/13
		if e.Inode.IsDir() {
			if err := w.addDir(&dir{inode: e.Inode, parent: d}, child); err != nil {
				return err
			}
			continue
		}
		if e.Inode.Size > 0 {
			w.files = append(w.files, e.Inode)
		}
	}
	if d.slots > maxDir {
		return fmt.Errorf("%s: a vfat directory holds %d entries, long names take several", p, maxDir)
	}
	return nil
}

func kind(n *tree.Inode) error {
	switch {
	case !n.IsDir() && !n.IsRegular():
		return errors.New("vfat holds only files and directories")
	case n.IsRegular() && n.Links > 1:
		return errors.New("vfat has no hard links")
	case n.Size > maxFile:
		return fmt.Errorf("is %d bytes long, vfat holds files of %d", n.Size, int64(maxFile))
	}
	return nil
}

// allocate gives every chain its clusters, without gaps.
func (w *writer) allocate() {
	next, size := uint32(2), int64(w.geo.perCluster*w.geo.sectorSize)
	chain := func(n *tree.Inode, length int64) {
		w.first[n] = next
		next += uint32(max(1, (length+size-1)/size))
		w.ends = append(w.ends, next-1)
	}
	for i, d := range w.dirs {
		if i > 0 || w.geo.bits == 32 {
			chain(d.inode, int64(d.slots)*32)
		}
	}
	for _, f := range w.files {
		chain(f, f.Size)
	}
	w.used = next - 2
}

func (w *writer) write(f *os.File) error {
	size := w.o.Size
	if size == 0 {
		size = int64(w.geo.sectors * w.geo.sectorSize)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := w.writeHead(f); err != nil {
		return err
	}
	for i := range w.geo.fats {
		at := int64((w.geo.reserved + i*w.geo.fatSectors) * w.geo.sectorSize)
		if err := w.writeTable(io.NewOffsetWriter(f, at)); err != nil {
			return err
		}
	}
	for i, d := range w.dirs {
		at := w.geo.rootAt()
		if i > 0 || w.geo.bits == 32 {
			at = w.geo.clusterAt(w.first[d.inode])
		}
		if _, err := f.WriteAt(w.dirBytes(d), at); err != nil {
			return err
		}
	}
	for _, n := range w.files {
		if err := n.CopyTo(w.ctx, f, w.geo.clusterAt(w.first[n])); err != nil {
			return err
		}
	}
	return nil
}

// volumeID comes from the content unless it was given.
func (w *writer) volumeID() uint32 {
	if w.o.VolumeID != 0 {
		return w.o.VolumeID
	}
	d := w.tree.Digest()
	return max(1, binary.LittleEndian.Uint32(d[:]))
}

// label11 is the padded label, "NO NAME" without one.
func (w *writer) label11() []byte {
	label := w.o.Label
	if label == "" {
		label = "NO NAME"
	}
	return []byte(fmt.Sprintf("%-11s", label))
}

// writeHead writes the boot sector and for 32 bits its copy and FSInfo.
func (w *writer) writeHead(f *os.File) error {
	boot := w.bootSector()
	if _, err := f.WriteAt(boot, 0); err != nil || w.geo.bits != 32 {
		return err
	}
	le := binary.LittleEndian
	info := make([]byte, bootSize)
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(w.geo.clusters)-w.used)
	le.PutUint32(info[492:], w.used+1)
	info[510], info[511] = 0x55, 0xaa
	for at, b := range map[int64][]byte{1: info, 6: boot, 7: info} {
		if _, err := f.WriteAt(b, at*int64(w.geo.sectorSize)); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) bootSector() []byte {
	le, g := binary.LittleEndian, &w.geo
	b := make([]byte, bootSize)
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
	le.PutUint16(b[11:], uint16(g.sectorSize))
	b[13], b[16], b[21] = byte(g.perCluster), byte(g.fats), 0xf8
	le.PutUint16(b[14:], uint16(g.reserved))
	le.PutUint16(b[17:], uint16(g.rootEntries))
	if g.sectors < 1<<16 && g.bits != 32 {
		le.PutUint16(b[19:], uint16(g.sectors))
	} else {
		le.PutUint32(b[32:], uint32(g.sectors))
	}
	le.PutUint16(b[24:], track)
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
func (w *writer) writeTable(out io.Writer) error {
	bw := bufio.NewWriterSize(out, 64<<10)
	t := tablePacker{w: bw, bits: w.geo.bits}
	last := w.geo.last()
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
