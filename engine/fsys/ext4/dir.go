package ext4

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// direntSize is the length of a directory entry, in bytes.
func direntSize(name int) int { return (8 + name + 3) &^ 3 }

// direntKinds are the file types of struct stat by their number in an entry; 0
// is unknown.
func direntKinds() []uint32 {
	return []uint32{0, unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}
}

// dirWriter lays directory entries out in blocks.
type dirWriter struct {
	l     *layout
	typed bool
	out   []byte
	room  int // bytes of a block that entries may use
	at    int // where the next entry begins
	last  int // where the last entry of the block begins
}

func (w *dirWriter) add(name string, num uint32, mode uint32) {
	size := direntSize(len(name))
	if w.at+size > len(w.out)-w.l.blockSize+w.room {
		w.end()
		w.out = append(w.out, make([]byte, w.l.blockSize)...)
	}
	le := binary.LittleEndian
	e := w.out[w.at:]
	le.PutUint32(e, num)
	le.PutUint16(e[4:], uint16(size))
	e[6] = byte(len(name))
	if w.typed && num != 0 {
		e[7] = byte(slices.Index(direntKinds(), mode&unix.S_IFMT))
	}
	copy(e[8:], name)
	w.last, w.at = w.at, w.at+size
}

// end stretches the last entry to the end of its block; the next one begins a new
// block.
func (w *dirWriter) end() {
	if len(w.out) > 0 {
		end := len(w.out) - w.l.blockSize + w.room
		binary.LittleEndian.PutUint16(w.out[w.last+4:], uint16(end-w.last))
	}
	w.at = len(w.out)
}

// tails writes the checksum that ends every block.
func (w *dirWriter) tails(inodeSeed uint32) {
	if w.room == w.l.blockSize {
		return
	}
	le := binary.LittleEndian
	for b := w.out; len(b) > 0; b = b[w.l.blockSize:] {
		tail := b[w.room:]
		le.PutUint16(tail[4:], 12)
		tail[7] = 0xde
		le.PutUint32(tail[8:], crc(inodeSeed, b[:w.room]))
	}
}

// dirData is the content of a directory, at least least blocks long.
func (x *fill) dirData(n *tree.Inode, parent uint32, least int) []byte {
	w := &dirWriter{l: x.l, typed: x.l.incompat&0x2 != 0, room: x.l.blockSize}
	if x.l.csum() {
		w.room -= 12
	}
	w.add(".", n.Number, unix.S_IFDIR)
	w.add("..", parent, unix.S_IFDIR)
	for _, e := range n.Entries {
		w.add(e.Name, e.Inode.Number, e.Inode.Mode)
	}
	w.end()
	for len(w.out) < least*x.l.blockSize {
		w.add("", 0, 0) // an empty block
		w.end()
	}
	w.tails(x.l.inodeSeed(n.Number))
	return w.out
}

// directories writes all of them, in order, from the first free block on.
func (x *fill) directories() error {
	parents := map[*tree.Inode]uint32{x.order[0].Inode: rootInode}
	for _, o := range x.order {
		if !o.IsDir() {
			continue
		}
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		for _, e := range o.Entries {
			if e.Inode.IsDir() {
				parents[e.Inode] = o.Number
			}
		}
		if err := x.directory(o, parents[o.Inode]); err != nil {
			return x.named(o, err)
		}
		delete(parents, o.Inode)
	}
	return nil
}

func (x *fill) directory(o *object, parent uint32) error {
	old := x.old[o.Number]
	data := x.dirData(o.Inode, parent, len(old))
	o.Size = int64(len(data))
	var list extentList
	for logical := uint64(0); len(data) > 0; {
		at, count, err := x.dirBlocks(&old, len(data)/x.l.blockSize)
		if err != nil {
			return err
		}
		size := int(count) * x.l.blockSize
		if err := x.w.put(data[:size], at); err != nil {
			return err
		}
		list.add(logical, at, count)
		logical, data = logical+uint64(count), data[size:]
	}
	return x.setMap(o, list)
}

// dirBlocks returns blocks that the directory already has, then free ones.
func (x *fill) dirBlocks(old *[]uint64, want int) (uint64, uint32, error) {
	if len(*old) > 0 {
		at := (*old)[0]
		*old = (*old)[1:]
		return at, 1, nil
	}
	return x.alloc.next(uint32(min(want, maxExtent)))
}

// maxLinks is what a link count holds (EXT4_LINK_MAX).
const maxLinks = 65000

// linkCount is i_links_count; directories with more have 1 (dir_nlink).
func (l *layout) linkCount(n *tree.Inode) (uint16, error) {
	switch {
	case n.Links <= maxLinks:
		return uint16(n.Links), nil
	case n.IsDir() && l.ro&roDirNlink != 0:
		return 1, nil
	}
	return 0, fmt.Errorf("has %d links, ext4 holds %d", n.Links, maxLinks)
}
