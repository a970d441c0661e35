package fsys

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Bounds on what an image may make a reader keep.
const (
	squashBlocks    = 1 << 22 // blocks of one file
	squashXattrSize = 1 << 20 // bytes of one file's attributes
	squashMetaKept  = 256     // blocks of metadata
	squashDataKept  = 8       // blocks of data
)

// squashVolume reads squashfs 4.0 with gzip and zstd.
type squashVolume struct {
	r         *pages
	blockSize int64
	sb        []byte
	zstd      *zstd.Decoder // nil: gzip
	meta      map[int64]squashMetaBlock
	blocks    map[int64][]byte // by position
	order     []int64          // of blocks, the oldest first
}

type squashMetaBlock struct {
	data []byte
	next int64 // where the following one lies
}

// squashInode is where an object's data is described.
type squashInode struct {
	dirBlock, dirOffset uint32
	listing             int64 // bytes of a directory's entries
	start               int64
	fragment, offset    uint32
	sizes               squashCursor // where the block sizes stand
	target              string
	xattr               uint32
}

func openSquash(in *io.SectionReader, r *pages) (volume, error) {
	sb, err := r.bytes(0, squashSuper)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	v := &squashVolume{r: r, sb: sb, blockSize: int64(le.Uint32(sb[12:])), meta: make(map[int64]squashMetaBlock), blocks: make(map[int64][]byte)}
	if v.blockSize < 4096 || v.blockSize > 1<<20 || v.blockSize&(v.blockSize-1) != 0 {
		return nil, damaged("blocks of %d bytes", v.blockSize)
	}
	switch kind := le.Uint16(sb[20:]); kind {
	case 1:
	case 6:
		v.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
	case 2, 3, 4, 5:
		return openOtherSquash(in)
	default:
		return nil, damaged("compression %d is unknown", kind)
	}
	return v, nil
}

func (v *squashVolume) kind() string                     { return "squashfs" }
func (v *squashVolume) fold(name string) string          { return name }
func (v *squashVolume) root() (*node, error)             { return v.inode(v.word64(32)) }
func (v *squashVolume) load(d *dirent) (*node, error)    { return v.inode(d.ino) }
func (v *squashVolume) readLink(n *node) (string, error) { return n.priv.(*squashInode).target, nil }
func (v *squashVolume) word64(at int) uint64             { return binary.LittleEndian.Uint64(v.sb[at:]) }

// unpack decompresses to at most limit bytes.
func (v *squashVolume) unpack(b []byte, limit int64) ([]byte, error) {
	if v.zstd != nil {
		out, err := v.zstd.DecodeAll(b, nil)
		if err != nil || int64(len(out)) > limit {
			return nil, damaged("a block does not decompress")
		}
		return out, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, damaged("a block does not decompress")
	}
	out, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil || int64(len(out)) > limit {
		return nil, damaged("a block does not decompress")
	}
	return out, nil
}

// metaBlock reads a block of metadata.
func (v *squashVolume) metaBlock(at int64) (squashMetaBlock, error) {
	if m, ok := v.meta[at]; ok {
		return m, nil
	}
	head, err := v.r.bytes(at, 2)
	if err != nil {
		return squashMetaBlock{}, err
	}
	word := binary.LittleEndian.Uint16(head)
	size := int(word & 0x7fff)
	if size == 0 || size > squashMeta {
		return squashMetaBlock{}, damaged("a block of metadata of %d bytes", size)
	}
	b, err := v.r.bytes(at+2, size)
	if err == nil && word&0x8000 == 0 {
		b, err = v.unpack(b, squashMeta)
	}
	if err != nil {
		return squashMetaBlock{}, err
	}
	if len(v.meta) >= squashMetaKept {
		clear(v.meta)
	}
	m := squashMetaBlock{b, at + 2 + int64(size)}
	v.meta[at] = m
	return m, nil
}

// squashCursor reads metadata on from a reference.
type squashCursor struct {
	v      *squashVolume
	block  int64
	offset int
}

// cursor starts at a reference (block and offset) into the table at a byte.
func (v *squashVolume) cursor(table, ref uint64) squashCursor {
	return squashCursor{v, int64(table&(1<<62-1)) + int64(ref>>16&(1<<40-1)), int(ref & 0xffff)}
}

// take reads n bytes.
func (c *squashCursor) take(n int64) ([]byte, error) {
	out := make([]byte, 0, min(n, squashMeta))
	for int64(len(out)) < n {
		m, err := c.v.metaBlock(c.block)
		if err != nil {
			return nil, err
		}
		if c.offset > len(m.data) || len(m.data) == 0 {
			return nil, damaged("metadata that is not there")
		}
		part := m.data[c.offset:]
		if left := n - int64(len(out)); int64(len(part)) > left {
			part = part[:left]
		}
		out = append(out, part...)
		if c.offset += len(part); c.offset == len(m.data) {
			c.block, c.offset = m.next, 0
		}
	}
	return out, nil
}

// indexed reads an entry of a table whose blocks are listed at a byte.
func (v *squashVolume) indexed(list uint64, entry, size int64) ([]byte, error) {
	b, err := v.r.bytes(int64(list&(1<<62-1))+entry*size/squashMeta*8, 8)
	if err != nil {
		return nil, err
	}
	c := v.cursor(binary.LittleEndian.Uint64(b), uint64(entry*size%squashMeta))
	return c.take(size)
}

func (v *squashVolume) id(i uint16) (uint32, error) {
	if i >= binary.LittleEndian.Uint16(v.sb[26:]) {
		return 0, damaged("owner %d is not listed", i)
	}
	b, err := v.indexed(v.word64(48), int64(i), 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (v *squashVolume) inode(ref uint64) (*node, error) {
	le := binary.LittleEndian
	c := v.cursor(v.word64(64), ref)
	b, err := c.take(16)
	if err != nil {
		return nil, err
	}
	kinds := []uint32{0, unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK, unix.S_IFBLK, unix.S_IFCHR, unix.S_IFIFO, unix.S_IFSOCK}
	kind, ext := int(le.Uint16(b)), false
	if kind > squashExt {
		kind, ext = kind-squashExt, true
	}
	if kind < 1 || kind > squashExt {
		return nil, damaged("an object of type %d", kind)
	}
	p := &squashInode{xattr: squashNone}
	n := &node{mode: kinds[kind] | uint32(le.Uint16(b[2:]))&0o7777, sec: int64(le.Uint32(b[8:])), priv: p}
	n.Inode, n.Links = uint64(le.Uint32(b[12:])), 1
	if n.UID, err = v.id(le.Uint16(b[4:])); err != nil {
		return nil, err
	}
	if n.GID, err = v.id(le.Uint16(b[6:])); err != nil {
		return nil, err
	}
	switch kind {
	case squashDir:
		err = c.directory(n, p, ext)
	case squashReg:
		err = c.file(n, p, ext)
	default:
		err = c.special(n, p, ext)
	}
	return n, err
}

// words reads numbers of 32 bits.
func (c *squashCursor) words(out ...*uint32) error {
	b, err := c.take(int64(4 * len(out)))
	if err != nil {
		return err
	}
	for i, p := range out {
		*p = binary.LittleEndian.Uint32(b[4*i:])
	}
	return nil
}

func (c *squashCursor) directory(n *node, p *squashInode, ext bool) error {
	var size, place, parent uint32
	var err error
	if ext {
		err = c.words(&n.Links, &size, &p.dirBlock, &parent, &place, &p.xattr)
		p.dirOffset = place >> 16
	} else {
		err = c.words(&p.dirBlock, &n.Links, &place, &parent)
		size, p.dirOffset = place&0xffff, place>>16
	}
	p.listing = int64(size) - 3
	return err
}

func (c *squashCursor) file(n *node, p *squashInode, ext bool) error {
	var low, high, size, sizeHigh, sparse uint32
	var err error
	if ext {
		err = c.words(&low, &high, &size, &sizeHigh, &sparse, &sparse, &n.Links, &p.fragment, &p.offset, &p.xattr)
	} else {
		err = c.words(&low, &p.fragment, &p.offset, &size)
	}
	p.start, n.size, p.sizes = int64(low)|int64(high)<<32, int64(size)|int64(sizeHigh)<<32, *c
	if err == nil && (p.start < 0 || n.size < 0 || n.size > squashBlocks*c.v.blockSize) {
		err = damaged("a file of %d bytes at %d", n.size, p.start)
	}
	return err
}

func (c *squashCursor) special(n *node, p *squashInode, ext bool) error {
	if err := c.words(&n.Links); err != nil {
		return err
	}
	var word uint32
	switch n.mode & unix.S_IFMT {
	case unix.S_IFLNK:
		if err := c.words(&word); err != nil {
			return err
		}
		if word >= maxLinkTarget {
			return damaged("a link of %d bytes", word)
		}
		b, err := c.take(int64(word))
		if err != nil {
			return err
		}
		p.target, n.size = string(b), int64(word)
	case unix.S_IFBLK, unix.S_IFCHR:
		if err := c.words(&word); err != nil {
			return err
		}
		n.Major, n.Minor = word>>8&0xfff, word&0xff|word>>12&0xfff00
	}
	if ext {
		return c.words(&p.xattr)
	}
	return nil
}

func (v *squashVolume) list(n *node) ([]dirent, error) {
	p := n.priv.(*squashInode)
	if p.listing <= 0 {
		return nil, nil
	}
	if p.listing > maxDirBytes {
		return nil, damaged("a directory of %d bytes", p.listing)
	}
	c := v.cursor(v.word64(72), uint64(p.dirBlock)<<16|uint64(p.dirOffset))
	b, err := c.take(p.listing)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	var out []dirent
	for len(b) >= 12 {
		count, block := le.Uint32(b), uint64(le.Uint32(b[4:]))
		if count > 255 {
			return nil, damaged("a run of %d entries", count)
		}
		b = b[12:]
		for range count + 1 {
			if len(b) < 8 || len(b) < 9+int(le.Uint16(b[6:])) {
				return nil, damaged("a directory entry is cut off")
			}
			size := int(le.Uint16(b[6:])) + 1
			name := string(b[8 : 8+size])
			if size > maxName || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
				return nil, damaged("%.40q is no name", name)
			}
			out = append(out, dirent{name: name, ino: block<<16 | uint64(le.Uint16(b))})
			b = b[8+size:]
		}
		if len(out) > maxDirEntries {
			return nil, fmt.Errorf("a directory with more than %d entries", maxDirEntries)
		}
	}
	return out, nil
}

func (v *squashVolume) xattrs(n *node) ([]xattr, error) {
	p, le := n.priv.(*squashInode), binary.LittleEndian
	table := v.word64(56)
	if p.xattr == squashNone || table == 1<<64-1 {
		return nil, nil
	}
	head, err := v.r.bytes(int64(table&(1<<62-1)), 16)
	if err != nil {
		return nil, err
	}
	if p.xattr >= le.Uint32(head[8:]) {
		return nil, damaged("attributes %d are not listed", p.xattr)
	}
	e, err := v.indexed(table+16, int64(p.xattr), 16)
	if err != nil {
		return nil, err
	}
	c := v.cursor(le.Uint64(head), le.Uint64(e))
	var out []xattr
	for left, read := le.Uint32(e[8:]), 0; left > 0; left-- {
		x, err := c.xattr(le.Uint64(head))
		if err != nil {
			return nil, err
		}
		if read += len(x.name) + len(x.value) + 8; read > squashXattrSize {
			return nil, damaged("the attributes of one file take more than %d bytes", squashXattrSize)
		}
		out = append(out, x)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].name < out[j].name })
	return out, nil
}

// xattr reads one; a long value that several share lies elsewhere in the table.
func (c *squashCursor) xattr(table uint64) (xattr, error) {
	le := binary.LittleEndian
	b, err := c.take(4)
	if err != nil {
		return xattr{}, err
	}
	kind := le.Uint16(b)
	if kind&0xff > 2 {
		return xattr{}, damaged("an attribute of type %d", kind)
	}
	name, err := c.take(int64(le.Uint16(b[2:])))
	if err != nil {
		return xattr{}, err
	}
	var size uint32
	if err := c.words(&size); err != nil {
		return xattr{}, err
	}
	at := c
	if kind&0x100 != 0 {
		if b, err = c.take(8); err != nil {
			return xattr{}, err
		}
		far := c.v.cursor(table, le.Uint64(b))
		if err := far.words(&size); err != nil {
			return xattr{}, err
		}
		at = &far
	}
	if size > 64<<10 {
		return xattr{}, damaged("an attribute of %d bytes", size)
	}
	value, err := at.take(int64(size))
	return xattr{[]string{"user.", "trusted.", "security."}[kind&0xff] + string(name), value}, err
}

// data reads the list of a file's blocks.
func (v *squashVolume) data(n *node) (io.ReaderAt, error) {
	p := n.priv.(*squashInode)
	f := &squashFile{v: v, p: p, size: n.size}
	count := n.size / v.blockSize
	if p.fragment == squashNone && n.size%v.blockSize != 0 {
		count++
	}
	c := p.sizes
	b, err := c.take(4 * count)
	if err != nil {
		return nil, err
	}
	for ; len(b) > 0; b = b[4:] {
		f.sizes = append(f.sizes, binary.LittleEndian.Uint32(b))
	}
	f.at = p.start
	return f, nil
}

// squashFile is a file's data. It remembers where a block lies, so that reading
// on does not count from the beginning.
type squashFile struct {
	v     *squashVolume
	p     *squashInode
	size  int64
	sizes []uint32
	index int64
	at    int64 // of block index
}

func (f *squashFile) ReadAt(b []byte, off int64) (int, error) {
	bs := f.v.blockSize
	done := 0
	for done < len(b) {
		if off >= f.size {
			return done, io.EOF
		}
		block, err := f.block(off / bs)
		if err != nil {
			return done, err
		}
		n := min(int64(len(b)-done), min(bs, f.size-off/bs*bs)-off%bs)
		if block == nil {
			clear(b[done : done+int(n)])
		} else if int64(len(block)) < off%bs+n {
			return done, damaged("a block is too short")
		} else {
			copy(b[done:done+int(n)], block[off%bs:])
		}
		done, off = done+int(n), off+n
	}
	return done, nil
}

// block is one of a file's, nil for zeros.
func (f *squashFile) block(i int64) ([]byte, error) {
	if i >= int64(len(f.sizes)) {
		return f.tail()
	}
	if i < f.index {
		f.index, f.at = 0, f.p.start
	}
	for ; f.index < i; f.index++ {
		f.at += int64(f.sizes[f.index] &^ squashPlain)
	}
	if f.sizes[i]&^squashPlain == 0 {
		return nil, nil
	}
	return f.v.dataBlock(f.at, f.sizes[i])
}

// tail is the end of the file, in a block that it shares.
func (f *squashFile) tail() ([]byte, error) {
	if f.p.fragment >= binary.LittleEndian.Uint32(f.v.sb[16:]) {
		return nil, damaged("fragment %d is not listed", f.p.fragment)
	}
	e, err := f.v.indexed(f.v.word64(80), int64(f.p.fragment), 16)
	if err != nil {
		return nil, err
	}
	b, err := f.v.dataBlock(int64(binary.LittleEndian.Uint64(e)&(1<<62-1)), binary.LittleEndian.Uint32(e[8:]))
	if err != nil {
		return nil, err
	}
	if int64(f.p.offset) > int64(len(b)) {
		return nil, damaged("a fragment is too short")
	}
	return b[f.p.offset:], nil
}

// dataBlock reads a block of data, or remembers it.
func (v *squashVolume) dataBlock(at int64, word uint32) ([]byte, error) {
	if b, ok := v.blocks[at]; ok {
		return b, nil
	}
	size := int64(word &^ squashPlain)
	if size > v.blockSize {
		return nil, damaged("a block of %d bytes", size)
	}
	b, err := v.r.bytes(at, int(size))
	if err == nil && word&squashPlain == 0 {
		b, err = v.unpack(b, v.blockSize)
	}
	if err != nil {
		return nil, err
	}
	if len(v.order) >= squashDataKept {
		delete(v.blocks, v.order[0])
		v.order = slices.Delete(v.order, 0, 1)
	}
	v.blocks[at], v.order = b, append(v.order, at)
	return b, nil
}

func probeSquashfs(w *window) (Info, error) {
	b, err := w.at(0, 96)
	if err != nil || string(b[:4]) != "hsqs" || binary.LittleEndian.Uint16(b[28:]) != 4 {
		return Info{}, err
	}
	le := binary.LittleEndian
	return Info{Type: "squashfs", Size: clip(le.Uint64(b[40:]), 1), BlockSize: int64(le.Uint32(b[12:]))}, nil
}
