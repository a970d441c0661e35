package vfat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
)

// Image is where the bytes of a file system that is changed in place are.
type Image interface {
	io.ReaderAt
	io.WriterAt
}

// maxTable bounds the allocation table that an Editor holds in memory, in bytes.
const maxTable = 256 << 20

// Editor changes a FAT file system in place, as a kernel's driver does: what is not
// changed stays where it is, with boot code, attributes and short names. Room is
// taken from the front, so that the same calls give the same bytes. Refusals are
// those of a kernel, as unix.Errno: ENOSPC, EEXIST, ENOENT, ENOTEMPTY, EINVAL for a
// name that FAT does not hold, ENAMETOOLONG, EFBIG. Nothing is complete before Close.
// It is not safe for concurrent use.
type Editor struct {
	image   Image
	g       geometry
	table   []byte // the first allocation table
	changed []bool // its sectors
	free    uint64 // clusters
	low     uint32 // no cluster below it is free
	objects uint64
	root    *Object
	orphans map[*Object]bool // removed while they were in use
}

// Object is a file or directory of an Editor. Its fields are the Editor's to change.
type Object struct {
	ID   uint64 // of no other object of the Editor
	Name string

	rec      dirRecord
	parent   *Object // nil for the root
	at       int     // the first of its records in the parent
	slots    int     // how many they are; the last is rec
	clusters []uint32
	chained  bool // clusters is filled
	fixed    bool // the root of FAT12 and FAT16
	dir      *directory
	uses     int
	removed  bool
}

// directory is the content of one, read.
type directory struct {
	data     []byte // its records
	children map[string]*Object
	order    []*Object
	names    *names
}

// Edit opens the FAT file system in the first size bytes of an image.
func Edit(image Image, size int64) (*Editor, error) {
	boot := make([]byte, bootSize)
	if _, err := image.ReadAt(boot, 0); err != nil {
		return nil, err
	}
	g, ok := parseBPB(boot)
	if !ok {
		return nil, volume.Damaged("the boot sector")
	}
	if end := g.clusterAt(uint32(g.clusters) + 2); end > size {
		return nil, volume.Damaged("it ends at byte %d, and the image at %d", end, size)
	}
	if length := g.fatSectors * g.sectorSize; length > maxTable || length*8 < (g.clusters+2)*uint64(g.bits) {
		return nil, fmt.Errorf("an allocation table of %d bytes for %d clusters can't be changed here", length, g.clusters)
	}
	if g.bits == 32 && boot[40]&0x80 != 0 {
		return nil, errors.New("only one of its allocation tables is in use, which can't be changed here")
	}
	e := &Editor{image: image, g: g, low: 2, orphans: make(map[*Object]bool)}
	e.table = make([]byte, g.fatSectors*g.sectorSize)
	e.changed = make([]bool, g.fatSectors)
	if _, err := image.ReadAt(e.table, e.tableAt(0)); err != nil {
		return nil, err
	}
	for c := range uint32(g.clusters) {
		if e.entry(c+2) == 0 {
			e.free++
		}
	}
	e.root = &Object{rec: dirRecord{Attr: attrDir}, fixed: g.bits != 32}
	e.root.setFirst(uint32(g.rootCluster))
	return e, nil
}

// Root is the root directory.
func (e *Editor) Root() *Object { return e.root }

// Space tells the size of a cluster in bytes, and how many there are and are free.
func (e *Editor) Space() (size int64, total, free uint64) {
	return int64(e.g.perCluster * e.g.sectorSize), e.g.clusters, e.free
}

// IsDir reports whether o is a directory.
func (o *Object) IsDir() bool { return o.rec.Attr&attrDir != 0 }

// ReadOnly reports whether o is write-protected.
func (o *Object) ReadOnly() bool { return o.rec.Attr&attrReadOnly != 0 }

// Size is the length of a file in bytes; 0 for a directory.
func (o *Object) Size() int64 { return int64(o.rec.Size) }

// Modified is when o was modified, in seconds; 0 where nothing is recorded.
func (o *Object) Modified() int64 { return dosSeconds(o.rec.Date, o.rec.Clock) }

func (o *Object) first() uint32 { return uint32(o.rec.High)<<16 | uint32(o.rec.Low) }

func (o *Object) setFirst(c uint32) { o.rec.High, o.rec.Low = uint16(c>>16), uint16(c) }

// Children are the entries of a directory, in the order of their records.
func (e *Editor) Children(dir *Object) ([]*Object, error) {
	d, err := e.load(dir)
	if err != nil {
		return nil, err
	}
	return d.order, nil
}

// Lookup finds an entry of a directory, whatever the case of its name.
func (e *Editor) Lookup(dir *Object, name string) (*Object, error) {
	d, err := e.load(dir)
	if err != nil {
		return nil, err
	}
	o := d.children[fold(name)]
	if o == nil {
		return nil, unix.ENOENT
	}
	return o, nil
}

func fold(name string) string { return strings.ToUpper(name) }

// load reads a directory.
func (e *Editor) load(o *Object) (*directory, error) {
	if !o.IsDir() {
		return nil, unix.ENOTDIR
	}
	if o.dir != nil {
		return o.dir, nil
	}
	data, err := e.readDir(o)
	if err != nil {
		return nil, err
	}
	d := &directory{data: data, children: make(map[string]*Object), names: newNames()}
	s := slotReader{e: e, parent: o, into: d}
	for i := 0; i+32 <= len(data); i += 32 {
		if data[i] == 0 {
			clear(data[i:]) // what follows the end means nothing
			break
		}
		if err := s.next(i / 32); err != nil {
			return nil, err
		}
	}
	o.dir = d
	return d, nil
}

// readDir reads the bytes of a directory.
func (e *Editor) readDir(o *Object) ([]byte, error) {
	if o.fixed {
		data := make([]byte, e.g.rootEntries*32)
		_, err := e.image.ReadAt(data, e.g.rootAt())
		return data, err
	}
	clusters, err := e.chain(o)
	if err != nil {
		return nil, err
	}
	size := e.clusterSize()
	if int64(len(clusters))*size > maxDir*32+size {
		return nil, volume.Damaged("a directory with more than %d records", maxDir)
	}
	data := make([]byte, int64(len(clusters))*size)
	for i, c := range clusters {
		if _, err := e.image.ReadAt(data[int64(i)*size:][:size], e.g.clusterAt(c)); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// slotReader makes objects of a directory's records.
type slotReader struct {
	records
	e      *Editor
	parent *Object
	into   *directory
	begin  int // where the long name begins that is being read
}

func (s *slotReader) next(slot int) error {
	b := s.into.data[slot*32:][:32]
	var r dirRecord
	if _, err := binary.Decode(b, binary.LittleEndian, &r); err != nil {
		return err
	}
	if b[0] != 0xe5 && r.Attr&0x3f == attrLong {
		if b[0]&0x40 != 0 {
			s.begin = slot
		}
		s.part(b)
		return nil
	}
	if b[0] != 0xe5 && r.Attr&attrLabel == 0 {
		s.add(slot, r)
	}
	s.long = nil
	return nil
}

// add makes an object of a record. Of entries with one name the first counts, as when
// it is read.
func (s *slotReader) add(slot int, r dirRecord) {
	name := s.name(&r)
	s.into.names.short[r.Name] = true
	if name == "" || name == "." || name == ".." || s.into.children[fold(name)] != nil {
		return
	}
	if s.e.g.bits != 32 {
		r.High = 0
	}
	o := s.e.newObject(s.parent, name, r)
	o.at, o.slots = slot, 1
	if s.long != nil && s.left == 0 && s.sum == shortSum(r.Name[:]) {
		o.at, o.slots = s.begin, slot-s.begin+1
	}
	s.into.add(o)
}

func (e *Editor) newObject(parent *Object, name string, r dirRecord) *Object {
	e.objects++
	return &Object{ID: e.objects, Name: name, rec: r, parent: parent}
}

func (d *directory) add(o *Object) {
	d.children[fold(o.Name)] = o
	d.names.folded[fold(o.Name)] = o.Name
	d.order = append(d.order, o)
}
