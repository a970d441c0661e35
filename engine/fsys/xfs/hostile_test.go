package xfs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// image is an xfs that a test damages.
type image struct {
	*testing.T
	f *os.File
	v *reader
}

func newImage(t *testing.T) *image {
	t.Helper()
	fsystest.Need(t, "mkfs.xfs")
	files := []tree.File{{Path: "file", Data: make([]byte, 9000), Xattrs: map[string]string{"user.far": string(make([]byte, maxValue))}}}
	files[0].Data[8999] = 1
	for i := range 100 {
		files = append(files, tree.File{Path: fmt.Sprint("dir/", i)})
	}
	path := t.TempDir() + "/img"
	if err := Make(t.Context(), path, Options{Size: Least}, tree.FromFiles(files, time.Time{})); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	m := &image{T: t, f: f}
	m.open(Least)
	return m
}

// open reads the first size bytes of the image anew.
func (m *image) open(size int64) {
	m.Helper()
	v, err := Open(volume.NewPages(io.NewSectionReader(m.f, 0, size)))
	if err != nil {
		m.Fatal(err)
	}
	m.v = v.(*reader)
}

func (m *image) write(at int64, b []byte) {
	m.Helper()
	if _, err := m.f.WriteAt(b, at); err != nil {
		m.Fatal(err)
	}
	if info, err := m.f.Stat(); err != nil {
		m.Fatal(err)
	} else if m.v != nil {
		m.v.r = volume.NewPages(io.NewSectionReader(m.f, 0, info.Size()))
	}
}

func (m *image) put32(at int64, n uint32) { m.write(at, binary.BigEndian.AppendUint32(nil, n)) }

// object is what the root has by that name, and the byte at which its inode begins.
func (m *image) object(name string) (*volume.Node, int64) {
	m.Helper()
	root, err := m.v.Root()
	if err != nil {
		m.Fatal(err)
	}
	list, err := m.v.List(root)
	if err != nil {
		m.Fatal(err)
	}
	for _, e := range list {
		if e.Name == name {
			n, err := m.v.Load(&e)
			if err != nil {
				m.Fatal(err)
			}
			return n, m.v.geo.byteOf(e.Number>>m.v.geo.inodePerLg) + int64(e.Number&(1<<m.v.geo.inodePerLg-1))*inodeSize
		}
	}
	m.Fatal("no " + name)
	return nil, 0
}

// TestExtentsBeyondAllFiles: bytes of an extent that are no int64.
func TestExtentsBeyondAllFiles(t *testing.T) {
	m := newImage(t)
	n, at := m.object("file")
	list, err := m.v.pieces(n.Private.(*inode).data, formatExtents, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, logical := range []uint64{1 << 51, 1<<51 - 1, 1 << 52, 1<<54 - 1} {
		m.write(at+coreSize, extent{logical, list[0].block, 1}.record())
		n, _ := m.object("file")
		_, err := m.v.Data(n)
		fsystest.WantError(t, err, "an extent lies outside")
	}
	m.write(at+coreSize, extent{1<<51 - 2, list[0].block, 1}.record())
	n, _ = m.object("file")
	data, err := m.v.Data(n)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n.Size)
	if k, err := data.ReadAt(b, 0); k != len(b) || err != nil {
		t.Errorf("%d bytes, %v", k, err)
	}
}

func TestDirectoriesOfHalfBlocks(t *testing.T) {
	m := newImage(t)
	_, at := m.object("dir")
	for _, size := range []uint64{5, 4093, 4096 + 5} {
		m.write(at+56, binary.BigEndian.AppendUint64(nil, size))
		n, _ := m.object("dir")
		_, err := m.v.List(n)
		fsystest.WantError(t, err, "a directory of "+fmt.Sprint(size)+" bytes, in blocks of 4096")
	}
	m.write(at+56, binary.BigEndian.AppendUint64(nil, 4096))
	n, _ := m.object("dir")
	p := n.Private.(*inode)
	list, err := m.v.pieces(p.data, p.dataFormat, p.pieces)
	if err != nil {
		t.Fatal(err)
	}
	m.v.r = volume.NewPages(io.NewSectionReader(m.f, 0, m.v.geo.byteOf(list[0].block)))
	_, err = m.v.List(n)
	fsystest.WantError(t, err, "lies behind the end of the image")
}

func TestRealtimeFilesAreRefused(t *testing.T) {
	m := newImage(t)
	_, at := m.object("file")
	m.write(at+91, []byte{1})
	n, _ := m.object("file")
	_, err := m.v.Data(n)
	fsystest.WantError(t, err, "its data lies on the real-time device")
}

// attributes are the blocks of the file's attributes: byte and content of the leaf, and
// byte of the block behind.
func (m *image) attributes() (leafAt int64, leaf []byte, second int64) {
	m.Helper()
	n, _ := m.object("file")
	p := n.Private.(*inode)
	list, err := m.v.pieces(p.attr, p.attrFormat, p.attrPieces)
	if err != nil {
		m.Fatal(err)
	}
	if leaf, err = m.v.block(list[0].block); err != nil {
		m.Fatal(err)
	}
	second = m.v.geo.byteOf(list[0].block + 1)
	if list[0].count == 1 {
		second = m.v.geo.byteOf(list[1].block)
	}
	return m.v.geo.byteOf(list[0].block), leaf, second
}

func TestAttributesWithoutEnd(t *testing.T) {
	m := newImage(t)
	at, leaf, second := m.attributes()
	loop := append([]byte(nil), leaf...)
	be.PutUint32(loop, 1)
	m.write(at, loop)
	m.write(second, loop) // it leads to itself
	n, _ := m.object("file")
	_, err := m.v.Xattrs(n)
	fsystest.WantError(t, err, "block 1 of attributes comes twice")

	be.PutUint16(leaf[56:], 300) // one name and its value of 64 KiB, 300 times
	for i := range 300 {
		copy(leaf[attrHeader+8*i:], leaf[attrHeader:attrHeader+8])
	}
	m.write(at, leaf)
	n, _ = m.object("file")
	_, err = m.v.Xattrs(n)
	fsystest.WantError(t, err, "attributes of more than 16777216 bytes")
}

// TestTreesThatLeadBack: a leaf of a file's extents that names itself as the next one.
func TestTreesThatLeadBack(t *testing.T) {
	m := newImage(t)
	_, _, spare := m.attributes()
	block := (spare - m.v.geo.groupByte(0)) / blockSize
	leaf := make([]byte, blockSize)
	be.PutUint32(leaf, magicBmap)
	be.PutUint16(leaf[6:], 1)
	be.PutUint64(leaf[16:], uint64(block))
	copy(leaf[longHeader:], extent{0, uint64(block), 1}.record())
	m.write(spare, leaf)
	fork := make([]byte, 100)
	be.PutUint16(fork, 1)
	be.PutUint16(fork[2:], 1)
	be.PutUint64(fork[4+8*((len(fork)-4)/16):], uint64(block))
	_, err := m.v.pieces(fork, formatBtree, 1)
	fsystest.WantError(t, err, "is not in order")
}

// TestWideDirectories: of a directory in an inode the first byte counts the names, the
// second one the numbers of more than 32 bits, that of the parent, too.
func TestWideDirectories(t *testing.T) {
	v := &reader{kinds: true}
	for _, c := range []struct {
		parent      uint64
		numbers     []uint64
		count, wide byte
	}{
		{1 << 33, []uint64{1 << 34, 5}, 2, 2},
		{1 << 33, []uint64{1 << 34, 1 << 35}, 2, 3},
		{7, []uint64{1 << 34, 5}, 2, 1},
		{1 << 33, nil, 0, 1},
		{7, []uint64{nullBlock}, 1, 0},
	} {
		var list []dirent
		for i, n := range c.numbers {
			list = append(list, dirent{fmt.Sprint("name", i), n, 1})
		}
		b := shortDirectory(list, c.parent)
		if b[0] != c.count || b[1] != c.wide {
			t.Errorf("%v: counts are %d and %d, want %d and %d", c.numbers, b[0], b[1], c.count, c.wide)
		}
		got, err := v.shortEntries(b, int64(len(b)))
		if err != nil || len(got) != len(list) {
			t.Errorf("%v: %v, %v", c.numbers, got, err)
		}
		for i := range got {
			if got[i].Name != list[i].name || got[i].Number != list[i].number {
				t.Errorf("got %+v, want %+v", got[i], list[i])
			}
		}
	}
}

// digest is one of the image's data, and of where it lies.
func (m *image) digest(size int64) string {
	m.Helper()
	h := sha256.New()
	for off := int64(0); off < size; {
		from, to, err := sparse.Run(m.f, off, size)
		b := make([]byte, to-from)
		if _, rerr := m.f.ReadAt(b, from); err != nil || rerr != nil {
			m.Fatal(err, rerr)
		}
		for start, end := range sparse.Runs(b, blockSize) {
			fmt.Fprintln(h, from+int64(start))
			h.Write(b[start:end])
		}
		off = to
	}
	return string(h.Sum(nil))
}

// cantGrow asks for 10 MiB more, which is refused before anything is written.
func (m *image) cantGrow(want string) {
	m.Helper()
	info, err := m.f.Stat()
	if err != nil {
		m.Fatal(err)
	}
	before := m.digest(info.Size())
	if err := m.f.Truncate(info.Size() + 10<<20); err != nil {
		m.Fatal(err)
	}
	err = Grow(m.Context(), m.f)
	fsystest.WantError(m, err, "it can't be made larger as it is: ", want)
	if !errors.Is(err, volume.ErrCantGrow) {
		m.Errorf("%v is no ErrCantGrow", err)
	}
	if err := m.f.Truncate(info.Size()); err != nil {
		m.Fatal(err)
	}
	if m.digest(info.Size()) != before {
		m.Error("something was written before: " + want)
	}
}

// TestDamagedSpaceDoesNotGrow damages the tree of free space of a group that gets more.
func TestDamagedSpaceDoesNotGrow(t *testing.T) {
	m := newImage(t)
	if err := m.f.Truncate(Least + 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := Grow(t.Context(), m.f); err != nil {
		t.Fatal(err)
	}
	m.open(Least + 1<<20)
	base := m.v.geo.groupByte(m.v.geo.agCount - 1)
	whole := make([]byte, 64*blockSize)
	if _, err := m.f.ReadAt(whole, base); err != nil {
		t.Fatal(err)
	}
	root, spare := whole[rootBno*blockSize:][:blockSize], base+40*blockSize
	damage := map[string]func(){
		"itself as the next one": func() { m.put32(base+rootBno*blockSize+12, rootBno) },
		"a block outside":        func() { m.put32(base+sector+16, 1<<30) },
		"no root":                func() { m.put32(base+sector+16, nullBlock) },
		"levels":                 func() { m.put32(base+sector+28, 1<<31) },
		"too many keys": func() {
			m.write(spare, root)
			inner := append([]byte(nil), root...)
			be.PutUint16(inner[4:], 1)
			be.PutUint16(inner[6:], nodeKeys+64)
			for at := shortHeader + 8*nodeKeys; at < blockSize; at += 4 {
				be.PutUint32(inner[at:], 40)
			}
			m.write(base+rootBno*blockSize, inner)
			m.put32(base+sector+28, 2)
		},
		"nothing below": func() {
			inner := append([]byte(nil), root...)
			be.PutUint16(inner[4:], 2)
			be.PutUint32(inner[shortHeader+8*nodeKeys:], nullBlock)
			m.write(base+rootBno*blockSize, inner)
			m.put32(base+sector+28, 3)
		},
		"another block below than it names": func() {
			leaf := append([]byte(nil), root...)
			m.write(spare, leaf)
			inner := append([]byte(nil), root...)
			be.PutUint16(inner[4:], 1)
			be.PutUint16(inner[6:], 2)
			be.PutUint32(inner[shortHeader+8*nodeKeys:], 40)
			be.PutUint32(inner[shortHeader+8*nodeKeys+4:], 41)
			m.write(base+rootBno*blockSize, inner)
			m.put32(base+sector+28, 2)
		},
	}
	for what, do := range damage {
		t.Run(what, func(t *testing.T) {
			m := &image{T: t, f: m.f}
			do()
			m.cantGrow("the file system is damaged: ")
			m.write(base, whole)
		})
	}
	if err := m.f.Truncate(Least + 10<<20); err != nil {
		t.Fatal(err)
	}
	if err := Grow(t.Context(), m.f); err != nil {
		t.Errorf("whole again: %v", err)
	}
}

func TestTinyGroupsDoNotGrow(t *testing.T) {
	m := newImage(t)
	m.put32(84, 5)
	m.write(8, binary.BigEndian.AppendUint64(nil, 5*uint64(m.v.geo.agCount)))
	m.write(48, make([]byte, 8)) // its log is not looked at
	m.cantGrow("groups of 5 blocks")
}

func TestGrowIsCancelled(t *testing.T) {
	m := newImage(t)
	if err := m.f.Truncate(4 << 30); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	fsystest.WantError(t, Grow(ctx, m.f), "context canceled")
}
