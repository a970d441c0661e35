// Package iso9660 makes and reads ISO 9660 (ECMA-119) with Joliet and Rock Ridge
// (IEEE P1282 1.12 on SUSP 1.12). It hides the two hierarchies of directories,
// their identifiers, and the system use entries. It makes no boot records and no
// files of 4 GiB, and reads neither zisofs nor interleaved files.
//
//	Make, Options   a new file system with files in it
//	Probe, Open     volume descriptors recognised; an image's files read
//
// Inside: writer gives every extent its place, then writes from front to back;
// directories is one hierarchy with its path tables, names its identifiers, more
// the areas that Rock Ridge continues in. reader reads, and posix is what the
// system use entries of one record say.
package iso9660

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"b9.build/b9/engine/fsys/tree"
)

// Options describe a new ISO 9660 file system.
type Options struct {
	// VolumeID is at most 32 bytes of printable ASCII, in any case ("cidata").
	// Joliet holds its first 16 characters.
	VolumeID string
	// Joliet adds a second tree with names of up to 64 UTF-16 characters.
	Joliet bool
	// RockRidge adds names of up to 255 bytes, modes, owners, times, symbolic
	// links and devices.
	RockRidge bool
	// Time of the volume and of files that bring none.
	Time time.Time
}

const (
	sector  = 2048
	maxFile = 1<<32 - sector // one extent
	maxDirs = 1<<16 - 1      // path table numbers
)

// Make makes an ISO 9660 file system of content in a new file at path (ECMA-119, level
// 2 names; the Joliet specification, level 3; IEEE P1282 Rock Ridge 1.12 on
// SUSP 1.12). The same options and content give the same bytes. Directories may be
// nested deeper than eight levels, as Linux reads them. Files of 4 GiB and
// more, and without Rock Ridge anything but files and directories, are errors;
// extended attributes are not stored. After an error path is what it was before.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	return tree.Make(ctx, path, "iso9660", content, o.check, func(t *tree.Tree) (func(*os.File) error, error) {
		w := &writer{ctx: ctx, o: o, extents: make(map[*tree.Inode]uint32)}
		return w.write, w.plan(t)
	})
}

func (o *Options) check() error {
	if len(o.VolumeID) > 32 {
		return fmt.Errorf("volume id %q is %d bytes long, iso9660 holds 32", o.VolumeID, len(o.VolumeID))
	}
	for _, c := range []byte(o.VolumeID) {
		if c < 0x20 || c > 0x7e {
			return fmt.Errorf("volume id %q holds the byte %#x, which is not printable ASCII", o.VolumeID, c)
		}
	}
	return nil
}

// writer computes where everything lies, then writes from front to back.
type writer struct {
	ctx     context.Context
	o       Options
	trees   []*directories // the primary one, then Joliet's
	files   []*tree.Inode  // with data, each once
	extents map[*tree.Inode]uint32
	sectors uint32 // of the whole volume
}

// plan builds the directory trees and gives every extent its place.
func (w *writer) plan(t *tree.Tree) error {
	if err := w.collect(t); err != nil {
		return err
	}
	w.trees = []*directories{{w: w, primary: true}}
	if w.o.Joliet {
		w.trees = append(w.trees, &directories{w: w})
	}
	next := uint32(16 + len(w.trees) + 1) // descriptors and their terminator
	for _, tr := range w.trees {
		if err := tr.build(t.Root); err != nil {
			return err
		}
		next = tr.layTables(next)
	}
	for _, tr := range w.trees {
		next = tr.layDirs(next)
	}
	total := uint64(next)
	for _, n := range w.files {
		w.extents[n] = uint32(total)
		total += sectorsOf(n.Size)
	}
	if total > 1<<32-1 {
		return errors.New("the files are too large for one iso9660 file system")
	}
	w.sectors = uint32(total)
	return nil
}

func sectorsOf(size int64) uint64 { return (uint64(size) + sector - 1) / sector }

// collect lists the files with data and refuses what cannot be stored.
func (w *writer) collect(t *tree.Tree) error {
	num := uint32(0)
	return t.Walk(func(p string, n *tree.Inode) error {
		num++
		n.Number = num
		switch {
		case !utf8.ValidString(p) && w.o.Joliet:
			return fmt.Errorf("%q: the name is not UTF-8", p)
		case !w.o.RockRidge && !n.IsDir() && !n.IsRegular():
			return fmt.Errorf("%s: only Rock Ridge holds more than files and directories", p)
		case n.IsLink() && len(n.Target) > tree.MaxPath:
			return fmt.Errorf("%s: the symbolic link's target is longer than %d bytes", p, tree.MaxPath)
		case !n.IsRegular() || n.Size == 0:
			return nil
		case n.Size > maxFile:
			return fmt.Errorf("%s: is %d bytes long, iso9660 holds files below 4G", p, n.Size)
		}
		w.files = append(w.files, n)
		return context.Cause(w.ctx)
	})
}

func (w *writer) write(f *os.File) error {
	if err := f.Truncate(int64(w.sectors) * sector); err != nil {
		return err
	}
	put := func(b []byte, at int64) error {
		_, err := f.WriteAt(b, at*sector)
		return err
	}
	for i, tr := range w.trees {
		if err := put(tr.descriptor(), int64(16+i)); err != nil {
			return err
		}
	}
	end := make([]byte, sector)
	copy(end, "\xffCD001\x01")
	if err := put(end, int64(16+len(w.trees))); err != nil {
		return err
	}
	for _, tr := range w.trees {
		if err := tr.write(put); err != nil {
			return err
		}
	}
	for _, n := range w.files {
		if err := n.CopyTo(w.ctx, f, int64(w.extents[n])*sector); err != nil {
			return err
		}
	}
	return nil
}

// directories is one hierarchy of directories: names, tables and records.
type directories struct {
	w       *writer
	primary bool
	dirs    []*dir // in the order of the path table
	tableL  uint32 // first sector of the little-endian path table
	tableM  uint32
	table   int    // bytes of a path table
	more    uint32 // first sector of the continuation areas
	moreLen uint32 // sectors of them
}

// dir is a directory with its entries in the order of their identifiers.
type dir struct {
	ino     *tree.Inode
	name    string // Rock Ridge's
	id      []byte
	parent  *dir
	entries []entry
	extent  uint32
	size    uint32 // bytes, whole sectors
	number  int    // in the path table, from 1
}

type entry struct {
	ino  *tree.Inode
	dir  *dir // directories
	name string
	id   []byte
}

// build names all directories and files, level by level, which is the order
// of the path table.
func (t *directories) build(root *tree.Inode) error {
	top := &dir{ino: root, id: []byte{0}, number: 1}
	top.parent = top
	t.dirs = []*dir{top}
	for i := 0; i < len(t.dirs); i++ {
		d := t.dirs[i]
		if err := t.name(d); err != nil {
			return err
		}
		for _, e := range d.entries {
			if e.dir == nil {
				continue
			}
			e.dir.number = len(t.dirs) + 1
			t.dirs = append(t.dirs, e.dir)
		}
		if len(t.dirs) > maxDirs {
			return fmt.Errorf("more than %d directories", maxDirs)
		}
	}
	return nil
}

// name gives the entries of a directory their identifiers.
func (t *directories) name(d *dir) error {
	names := names{joliet: !t.primary, taken: make(map[string]bool), next: make(map[string]int)}
	for _, e := range d.ino.Entries {
		if !t.primary && !e.Inode.IsDir() && !e.Inode.IsRegular() {
			continue // Joliet knows nothing else
		}
		id, err := names.add(e.Name, e.Inode.IsDir())
		if err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
		x := entry{ino: e.Inode, name: e.Name, id: id}
		if e.Inode.IsDir() {
			x.dir = &dir{ino: e.Inode, name: e.Name, id: id, parent: d}
		}
		d.entries = append(d.entries, x)
	}
	sortNames(d.entries, t.primary)
	return nil
}

// layTables places the path tables from a sector on and returns the next.
func (t *directories) layTables(next uint32) uint32 {
	t.table = 0
	for _, d := range t.dirs {
		t.table += 8 + len(d.id) + len(d.id)%2
	}
	n := uint32(sectorsOf(int64(t.table)))
	t.tableL, t.tableM = next, next+n
	return next + 2*n
}

// layDirs places the directories and their continuation areas. Encoding once
// without places tells the sizes, which do not depend on them.
func (t *directories) layDirs(next uint32) uint32 {
	more := &more{}
	for _, d := range t.dirs {
		d.size = uint32(len(t.encode(d, more)))
		d.extent = next
		next += d.size / sector
	}
	t.more, t.moreLen = next, uint32(sectorsOf(int64(len(more.data))))
	return next + t.moreLen
}

func (t *directories) write(put func([]byte, int64) error) error {
	if err := put(t.pathTable(binary.LittleEndian), int64(t.tableL)); err != nil {
		return err
	}
	if err := put(t.pathTable(binary.BigEndian), int64(t.tableM)); err != nil {
		return err
	}
	more := &more{first: t.more}
	for _, d := range t.dirs {
		if err := context.Cause(t.w.ctx); err != nil {
			return err
		}
		if err := put(t.encode(d, more), int64(d.extent)); err != nil {
			return err
		}
	}
	return put(more.data, int64(t.more))
}

func (t *directories) pathTable(order binary.AppendByteOrder) []byte {
	out := make([]byte, 0, t.table)
	for _, d := range t.dirs {
		out = append(out, byte(len(d.id)), 0)
		out = order.AppendUint32(out, d.extent)
		out = order.AppendUint16(out, uint16(d.parent.number))
		out = append(out, d.id...)
		if len(d.id)%2 == 1 {
			out = append(out, 0)
		}
	}
	return out
}

// encode is a directory's content. Records do not cross sectors.
func (t *directories) encode(d *dir, more *more) []byte {
	var out []byte
	add := func(rec []byte) {
		if left := sector - len(out)%sector; left < len(rec) {
			out = append(out, make([]byte, left)...)
		}
		out = append(out, rec...)
	}
	add(t.record(entry{ino: d.ino, dir: d, id: []byte{0}}, d, more))
	add(t.record(entry{ino: d.parent.ino, dir: d.parent, id: []byte{1}}, d, more))
	for _, e := range d.entries {
		add(t.record(e, d, more))
	}
	if rest := len(out) % sector; rest != 0 {
		out = append(out, make([]byte, sector-rest)...)
	}
	return out
}

// record is one directory record (ECMA-119, 9.1).
func (t *directories) record(e entry, in *dir, more *more) []byte {
	extent, size, flags := uint32(0), uint32(0), byte(0)
	switch {
	case e.dir != nil:
		extent, size, flags = e.dir.extent, e.dir.size, 2
	case e.ino.IsRegular():
		extent, size = t.w.extents[e.ino], uint32(e.ino.Size)
	}
	b := make([]byte, 33, 256)
	putBoth32(b[2:], extent)
	putBoth32(b[10:], size)
	putDate7(b[18:], e.ino.Sec)
	b[25] = flags
	putBoth16(b[28:], 1)
	b[32] = byte(len(e.id))
	b = append(b, e.id...)
	if len(e.id)%2 == 0 {
		b = append(b, 0)
	}
	if t.primary && t.w.o.RockRidge {
		b = more.attach(b, rockRidge(e, in))
	}
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	b[0] = byte(len(b))
	return b
}

// descriptor is the volume descriptor of the tree (ECMA-119, 8.4 and 8.5).
func (t *directories) descriptor() []byte {
	le, be := binary.LittleEndian, binary.BigEndian
	b := make([]byte, sector)
	copy(b, "\x01CD001\x01")
	text := func(from, to int, s string) { copy(b[from:to], t.text(s, to-from)) }
	if !t.primary {
		b[0] = 2
		copy(b[88:], "%/E")
	}
	text(8, 40, "LINUX")
	text(40, 72, t.w.o.VolumeID)
	putBoth32(b[80:], t.w.sectors)
	putBoth16(b[120:], 1)
	putBoth16(b[124:], 1)
	putBoth16(b[128:], sector)
	putBoth32(b[132:], uint32(t.table))
	le.PutUint32(b[140:], t.tableL)
	be.PutUint32(b[148:], t.tableM)
	root := t.dirs[0]
	top := &directories{w: &writer{}, primary: false} // the root's record is plain
	copy(b[156:], top.record(entry{ino: root.ino, dir: root, id: []byte{0}}, root, nil))
	for _, field := range [][2]int{{190, 318}, {318, 446}, {574, 702}, {702, 739}, {739, 776}, {776, 813}} {
		text(field[0], field[1], "")
	}
	text(446, 574, "B9") // data preparer
	when := date17(tree.FixedTime(t.w.o.Time))
	copy(b[813:], when)
	copy(b[830:], when)
	copy(b[847:], date17(0))
	copy(b[864:], date17(0))
	b[881] = 1
	return b
}

// text pads a string with spaces, in the tree's character set.
func (t *directories) text(s string, n int) []byte {
	if t.primary {
		return []byte(s + strings.Repeat(" ", n-len(s)))
	}
	out := make([]byte, 0, n)
	for _, c := range utf16.Encode([]rune(s)) {
		if len(out)+2 <= n {
			out = binary.BigEndian.AppendUint16(out, c)
		}
	}
	for len(out)+2 <= n {
		out = append(out, 0, ' ')
	}
	return out
}

func putBoth32(b []byte, v uint32) {
	binary.LittleEndian.PutUint32(b, v)
	binary.BigEndian.PutUint32(b[4:], v)
}

func putBoth16(b []byte, v uint16) {
	binary.LittleEndian.PutUint16(b, v)
	binary.BigEndian.PutUint16(b[2:], v)
}

// putDate7 writes a record's time, in UTC; the year is a byte from 1900 on.
func putDate7(b []byte, sec int64) {
	low := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	high := time.Date(2155, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
	t := time.Unix(min(max(sec, low), high), 0).UTC()
	copy(b, []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
}

// date17 is a descriptor's time in digits; 0 is "not specified".
func date17(sec int64) []byte {
	if sec == 0 {
		return append([]byte(strings.Repeat("0", 16)), 0)
	}
	t := time.Unix(min(sec, 253402300799), 0).UTC() // the year 9999
	return append([]byte(t.Format("20060102150405")+"00"), 0)
}
