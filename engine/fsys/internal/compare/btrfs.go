package compare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// Btrfs reports whether two btrfs that differ in the runs differ hold the same files.
//
// A btrfs never overwrites a live block of a tree: what changes is written
// elsewhere, and the place in the root tree from which it is found is changed. So
// the files, subvolumes and their properties are the same where every item of the
// root tree is, but for the roots of those trees that keep account of space. What
// could change a file's bytes in place (a swap file) does so in data chunks, and
// none of the differences may lie there.
func Btrfs(a, b io.ReaderAt, differ Runs) (bool, error) {
	return sameRoots(a, b, differ, func(data []byte) []byte { return data })
}

// Subvolumes reports whether two btrfs have the same subvolumes, with the same
// properties, whatever files these hold.
func Subvolumes(a, b io.ReaderAt) (bool, error) {
	return sameRoots(a, b, nil, properties)
}

// properties are what the item of a root says of its subvolume and not of what has been
// written to it: the number of its directory, flags and references, UUIDs, and by which
// transactions it was made, sent and received. See struct btrfs_root_item of
// linux/btrfs_tree.h.
func properties(item []byte) []byte {
	const shortest, whole = 239, 439 // without and with UUIDs
	switch {
	case len(item) >= whole:
		return slices.Concat(item[168:176], item[208:220], item[247:295], item[303:327])
	case len(item) >= shortest:
		return slices.Concat(item[168:176], item[208:220])
	}
	return item
}

// sameRoots reports whether all items of the root trees are equal, those of roots in
// the part of them that counts, and no run of differ is in a chunk of data.
func sameRoots(a, b io.ReaderAt, differ Runs, part func([]byte) []byte) (bool, error) {
	var roots [2][]byte
	var identities [2][]byte
	for i, r := range []io.ReaderAt{a, b} {
		v, err := openBtrfs(r)
		if err != nil || v == nil {
			return false, err
		}
		identities[i] = v.identity()
		roots[i], err = v.roots(differ, part)
		if errors.Is(err, errOddBtrfs) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	return bytes.Equal(identities[0], identities[1]) && bytes.Equal(roots[0], roots[1]), nil
}

// roots are the items of the root tree but for the roots of those trees that keep
// account of space.
func (v *btrfs) roots(differ Runs, part func([]byte) []byte) (roots []byte, err error) {
	if err := v.chunks(); err != nil {
		return nil, err
	}
	for _, c := range v.maps {
		for _, at := range c.stripes {
			if c.kind&chunkData != 0 && differ.Touch(Run{at, at + c.length}) {
				return nil, errOddBtrfs
			}
		}
	}
	err = v.walk(binary.LittleEndian.Uint64(v.sb[0x50:]), func(key btrfsKey, data []byte) {
		if key.kind == rootItem && slices.Contains(accounts(), key.object) {
			return
		}
		if key.kind == rootItem {
			data = part(data)
		}
		roots = append(append(roots, key.bytes...), data...)
	})
	return roots, err
}

// errOddBtrfs is said of what is not read here: several devices, or damage.
var errOddBtrfs = errors.New("not such a btrfs")

const (
	chunkData = 1
	chunkItem = 228
	rootItem  = 132
	// maxBtrfsNodes bounds what is read of a tree; a node is 16 KiB as a rule.
	maxBtrfsNodes = 1 << 14
)

// accounts are the trees of space: of roots, extents, chunks, devices, checksums,
// UUIDs, free space, block groups.
func accounts() []uint64 { return []uint64{1, 2, 3, 4, 7, 9, 10, 11} }

type btrfs struct {
	r    io.ReaderAt
	sb   []byte
	node int // bytes
	maps []chunk
	read int // nodes
}

// chunk maps logical addresses to the places of its copies in the image.
type chunk struct {
	logical, length int64
	kind            uint64
	stripes         []int64
}

type btrfsKey struct {
	object uint64
	kind   byte
	offset uint64
	bytes  []byte // all three
}

func parseKey(b []byte) btrfsKey {
	le := binary.LittleEndian
	return btrfsKey{le.Uint64(b), b[8], le.Uint64(b[9:]), b[:17]}
}

const keySize = 17

// openBtrfs returns nil for one that is not read here.
func openBtrfs(r io.ReaderAt) (*btrfs, error) {
	v := &btrfs{r: r, sb: make([]byte, 4096)}
	if _, err := r.ReadAt(v.sb, 64<<10); err != nil {
		return nil, whole(err)
	}
	le := binary.LittleEndian
	v.node = int(le.Uint32(v.sb[0x94:]))
	devices, log := le.Uint64(v.sb[0x88:]), le.Uint64(v.sb[0x60:])
	if string(v.sb[0x40:0x48]) != "_BHRfS_M" || devices != 1 || log != 0 || v.node < 4096 || v.node > 65536 {
		return nil, nil
	}
	return v, v.system()
}

// identity is what of a superblock its users see: UUID, flags, size, sizes of blocks
// and features but those that the kernel sets for itself, and the label.
func (v *btrfs) identity() []byte {
	const bigMetadata = 0x20
	b := slices.Clone(v.sb)
	b[0xbc] |= bigMetadata
	return slices.Concat(b[0x20:0x30], b[0x38:0x40], b[0x70:0x78], b[0x88:0xa0], b[0xb4:0xc6], b[0x12b:0x22b])
}

// system reads the chunks in the superblock, in which the tree of chunks lies.
func (v *btrfs) system() error {
	list := v.sb[0x32b:]
	list = list[:min(binary.LittleEndian.Uint32(v.sb[0xa0:]), 2048)]
	for len(list) > keySize {
		n, ok := v.chunk(parseKey(list), list[keySize:])
		if !ok {
			return nil // the walk will tell
		}
		list = list[keySize+n:]
	}
	return nil
}

// chunk keeps one item and returns its length.
func (v *btrfs) chunk(key btrfsKey, data []byte) (int, bool) {
	le := binary.LittleEndian
	const head, stripe = 48, 32
	if key.kind != chunkItem || len(data) < head {
		return 0, false
	}
	c := chunk{logical: int64(key.offset), length: int64(le.Uint64(data)), kind: le.Uint64(data[24:])}
	n := int(le.Uint16(data[44:]))
	const single, dup, types = 0, 0x20, 0x7
	if profile := c.kind &^ types; len(data) < head+n*stripe || c.length <= 0 || c.logical < 0 || profile != single && profile != dup {
		return 0, false
	}
	for i := range n {
		c.stripes = append(c.stripes, int64(le.Uint64(data[head+i*stripe+8:])))
	}
	v.maps = append(v.maps, c)
	return head + n*stripe, true
}

// chunks reads the tree of chunks.
func (v *btrfs) chunks() error {
	odd := false
	err := v.walk(binary.LittleEndian.Uint64(v.sb[0x58:]), func(key btrfsKey, data []byte) {
		if key.kind == chunkItem {
			_, ok := v.chunk(key, data)
			odd = odd || !ok
		}
	})
	if err == nil && odd {
		return errOddBtrfs
	}
	return err
}

// place is where a logical address lies in the image.
func (v *btrfs) place(logical int64) (int64, bool) {
	for _, c := range v.maps {
		if off := logical - c.logical; off >= 0 && off <= c.length-int64(v.node) && len(c.stripes) > 0 {
			return c.stripes[0] + off, true
		}
	}
	return 0, false
}

// walk calls do for all items of a tree, in order.
func (v *btrfs) walk(logical uint64, do func(btrfsKey, []byte)) error {
	return v.visit(logical, 8, do)
}

// visit reads a node of a level below most.
func (v *btrfs) visit(logical uint64, most int, do func(btrfsKey, []byte)) error {
	le := binary.LittleEndian
	const head, itemSize, pointer = 101, keySize + 8, keySize + 16
	at, ok := v.place(int64(logical))
	if v.read++; !ok || v.read > maxBtrfsNodes {
		return errOddBtrfs
	}
	b := make([]byte, v.node)
	if _, err := v.r.ReadAt(b, at); err != nil {
		return whole(err)
	}
	n, level := int(le.Uint32(b[0x60:])), int(b[0x64])
	if le.Uint64(b[0x30:]) != logical || level >= most || n < 0 || n > (v.node-head)/itemSize {
		return errOddBtrfs
	}
	for i := range n {
		if level > 0 {
			if head+(i+1)*pointer > v.node {
				return errOddBtrfs
			}
			if err := v.visit(le.Uint64(b[head+i*pointer+keySize:]), level, do); err != nil {
				return err
			}
			continue
		}
		item := b[head+i*itemSize:]
		from, size := head+int64(le.Uint32(item[keySize:])), int64(le.Uint32(item[keySize+4:]))
		if from+size > int64(v.node) {
			return errOddBtrfs
		}
		do(parseKey(item), b[from:from+size])
	}
	return nil
}
