package squashfs

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Bounds on what an image may make a reader keep.
const (
	blocks    = 1 << 22 // blocks of one file
	xattrSize = 1 << 20 // bytes of one file's attributes
	metaKept  = 256     // blocks of metadata
	dataKept  = 8       // blocks of data
)

// volume reads squashfs 4.0 with gzip and zstd.
type reader struct {
	r         *volume.Pages
	blockSize int64
	sb        []byte
	zstd      *zstd.Decoder // nil: gzip
	meta      map[int64]metaBlock
	blocks    map[int64][]byte // by position
	order     []int64          // of blocks, the oldest first
}

type metaBlock struct {
	data []byte
	next int64 // where the following one lies
}

// inode is where an object's data is described.
type inode struct {
	dirBlock, dirOffset uint32
	listing             int64 // bytes of a directory's entries
	start               int64
	fragment, offset    uint32
	sizes               cursor // where the block sizes stand
	target              string
	xattr               uint32
}

// Open reads the superblock of a squashfs image: in, whose pages r keeps.
func Open(in *io.SectionReader, r *volume.Pages) (volume.Volume, error) {
	sb, err := r.Bytes(0, super)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	v := &reader{r: r, sb: sb, blockSize: int64(le.Uint32(sb[12:])), meta: make(map[int64]metaBlock), blocks: make(map[int64][]byte)}
	if v.blockSize < 4096 || v.blockSize > 1<<20 || v.blockSize&(v.blockSize-1) != 0 {
		return nil, volume.Damaged("blocks of %d bytes", v.blockSize)
	}
	switch kind := le.Uint16(sb[20:]); kind {
	case 1:
	case 6:
		v.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2<<20), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
	case 2, 3, 4, 5:
		return openOther(in)
	default:
		return nil, volume.Damaged("compression %d is unknown", kind)
	}
	return v, nil
}

func (v *reader) Type() string { return "squashfs" }

func (v *reader) Fold(name string) string { return name }

func (v *reader) Root() (*volume.Node, error) { return v.inode(v.word64(32)) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return v.inode(e.Number) }

func (v *reader) ReadLink(n *volume.Node) (string, error) { return n.Private.(*inode).target, nil }

func (v *reader) word64(at int) uint64 { return binary.LittleEndian.Uint64(v.sb[at:]) }

// unpack decompresses to at most limit bytes.
func (v *reader) unpack(b []byte, limit int64) ([]byte, error) {
	if v.zstd != nil {
		out, err := v.zstd.DecodeAll(b, nil)
		if err != nil || int64(len(out)) > limit {
			return nil, volume.Damaged("a block does not decompress")
		}
		return out, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, volume.Damaged("a block does not decompress")
	}
	out, err := io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil || int64(len(out)) > limit {
		return nil, volume.Damaged("a block does not decompress")
	}
	return out, nil
}

// metaBlock reads a block of metadata.
func (v *reader) metaBlock(at int64) (metaBlock, error) {
	if m, ok := v.meta[at]; ok {
		return m, nil
	}
	head, err := v.r.Bytes(at, 2)
	if err != nil {
		return metaBlock{}, err
	}
	word := binary.LittleEndian.Uint16(head)
	size := int(word & 0x7fff)
	if size == 0 || size > meta {
		return metaBlock{}, volume.Damaged("a block of metadata of %d bytes", size)
	}
	b, err := v.r.Bytes(at+2, size)
	if err == nil && word&0x8000 == 0 {
		b, err = v.unpack(b, meta)
	}
	if err != nil {
		return metaBlock{}, err
	}
	if len(v.meta) >= metaKept {
		clear(v.meta)
	}
	m := metaBlock{b, at + 2 + int64(size)}
	v.meta[at] = m
	return m, nil
}

// cursor reads metadata on from a reference.
type cursor struct {
	v      *reader
	block  int64
	offset int
}

// cursor starts at a reference (block and offset) into the table at a byte.
func (v *reader) cursor(table, ref uint64) cursor {
	return cursor{v, int64(table&(1<<62-1)) + int64(ref>>16&(1<<40-1)), int(ref & 0xffff)}
}

// read reads n bytes.
func (c *cursor) read(n int64) ([]byte, error) {
	out := make([]byte, 0, min(n, meta))
	for int64(len(out)) < n {
		m, err := c.v.metaBlock(c.block)
		if err != nil {
			return nil, err
		}
		if c.offset > len(m.data) || len(m.data) == 0 {
			return nil, volume.Damaged("metadata that is not there")
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
func (v *reader) indexed(list uint64, entry, size int64) ([]byte, error) {
	b, err := v.r.Bytes(int64(list&(1<<62-1))+entry*size/meta*8, 8)
	if err != nil {
		return nil, err
	}
	c := v.cursor(binary.LittleEndian.Uint64(b), uint64(entry*size%meta))
	return c.read(size)
}

func (v *reader) id(i uint16) (uint32, error) {
	if i >= binary.LittleEndian.Uint16(v.sb[26:]) {
		return 0, volume.Damaged("owner %d is not listed", i)
	}
	b, err := v.indexed(v.word64(48), int64(i), 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (v *reader) inode(ref uint64) (*volume.Node, error) {
	le := binary.LittleEndian
	c := v.cursor(v.word64(64), ref)
	b, err := c.read(16)
	if err != nil {
		return nil, err
	}
	kind, x := int(le.Uint16(b)), false
	if kind > ext {
		kind, x = kind-ext, true
	}
	if kind < 1 || kind > ext {
		return nil, volume.Damaged("an object of type %d", kind)
	}
	p := &inode{xattr: none}
	n := &volume.Node{Mode: kinds()[kind] | uint32(le.Uint16(b[2:]))&0o7777, Sec: int64(le.Uint32(b[8:])), Private: p}
	n.Inode, n.Links = uint64(le.Uint32(b[12:])), 1
	if n.UID, err = v.id(le.Uint16(b[4:])); err != nil {
		return nil, err
	}
	if n.GID, err = v.id(le.Uint16(b[6:])); err != nil {
		return nil, err
	}
	switch kind {
	case dir:
		err = c.directory(n, p, x)
	case reg:
		err = c.file(n, p, x)
	default:
		err = c.special(n, p, x)
	}
	return n, err
}

// words reads numbers of 32 bits.
func (c *cursor) words(out ...*uint32) error {
	b, err := c.read(int64(4 * len(out)))
	if err != nil {
		return err
	}
	for i, p := range out {
		*p = binary.LittleEndian.Uint32(b[4*i:])
	}
	return nil
}

func (c *cursor) directory(n *volume.Node, p *inode, ext bool) error {
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

func (c *cursor) file(n *volume.Node, p *inode, ext bool) error {
	var low, high, size, sizeHigh, sparse uint32
	var err error
	if ext {
		err = c.words(&low, &high, &size, &sizeHigh, &sparse, &sparse, &n.Links, &p.fragment, &p.offset, &p.xattr)
	} else {
		err = c.words(&low, &p.fragment, &p.offset, &size)
	}
	p.start, n.Size, p.sizes = int64(low)|int64(high)<<32, int64(size)|int64(sizeHigh)<<32, *c
	if err == nil && (p.start < 0 || n.Size < 0 || n.Size > blocks*c.v.blockSize) {
		err = volume.Damaged("a file of %d bytes at %d", n.Size, p.start)
	}
	return err
}

func (c *cursor) special(n *volume.Node, p *inode, ext bool) error {
	if err := c.words(&n.Links); err != nil {
		return err
	}
	var word uint32
	switch n.Kind() {
	case unix.S_IFLNK:
		if err := c.words(&word); err != nil {
			return err
		}
		if word >= volume.MaxLinkTarget {
			return volume.Damaged("a link of %d bytes", word)
		}
		b, err := c.read(int64(word))
		if err != nil {
			return err
		}
		p.target, n.Size = string(b), int64(word)
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

func (v *reader) List(n *volume.Node) ([]volume.Entry, error) {
	p := n.Private.(*inode)
	if p.listing <= 0 {
		return nil, nil
	}
	if p.listing > volume.MaxDirBytes {
		return nil, volume.Damaged("a directory of %d bytes", p.listing)
	}
	c := v.cursor(v.word64(72), uint64(p.dirBlock)<<16|uint64(p.dirOffset))
	b, err := c.read(p.listing)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	var out []volume.Entry
	for len(b) >= 12 {
		count, block := le.Uint32(b), uint64(le.Uint32(b[4:]))
		if count > 255 {
			return nil, volume.Damaged("a run of %d entries", count)
		}
		b = b[12:]
		for range count + 1 {
			if len(b) < 8 || len(b) < 9+int(le.Uint16(b[6:])) {
				return nil, volume.Damaged("a directory entry is cut off")
			}
			size := int(le.Uint16(b[6:])) + 1
			name := string(b[8 : 8+size])
			if size > tree.MaxName || name == "." || name == ".." {
				return nil, volume.Damaged("%.40q is no name", name)
			}
			if out, err = volume.Append(out, volume.Entry{Name: name, Number: block<<16 | uint64(le.Uint16(b))}); err != nil {
				return nil, err
			}
			b = b[8+size:]
		}
	}
	return out, nil
}

func (v *reader) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	p, le := n.Private.(*inode), binary.LittleEndian
	table := v.word64(56)
	if p.xattr == none || table == 1<<64-1 {
		return nil, nil
	}
	head, err := v.r.Bytes(int64(table&(1<<62-1)), 16)
	if err != nil {
		return nil, err
	}
	if p.xattr >= le.Uint32(head[8:]) {
		return nil, volume.Damaged("attributes %d are not listed", p.xattr)
	}
	e, err := v.indexed(table+16, int64(p.xattr), 16)
	if err != nil {
		return nil, err
	}
	c := v.cursor(le.Uint64(head), le.Uint64(e))
	var out []tree.Xattr
	for left, read := le.Uint32(e[8:]), 0; left > 0; left-- {
		x, err := c.xattr(le.Uint64(head))
		if err != nil {
			return nil, err
		}
		if read += len(x.Name) + len(x.Value) + 8; read > xattrSize {
			return nil, volume.Damaged("the attributes of one file take more than %d bytes", xattrSize)
		}
		out = append(out, x)
	}
	return out, nil
}

// xattr reads one; a long value that several share lies elsewhere in the table.
func (c *cursor) xattr(table uint64) (tree.Xattr, error) {
	le := binary.LittleEndian
	b, err := c.read(4)
	if err != nil {
		return tree.Xattr{}, err
	}
	kind := le.Uint16(b)
	if kind&0xff > 2 {
		return tree.Xattr{}, volume.Damaged("an attribute of type %d", kind)
	}
	name, err := c.read(int64(le.Uint16(b[2:])))
	if err != nil {
		return tree.Xattr{}, err
	}
	var size uint32
	if err := c.words(&size); err != nil {
		return tree.Xattr{}, err
	}
	at := c
	if kind&0x100 != 0 {
		if b, err = c.read(8); err != nil {
			return tree.Xattr{}, err
		}
		far := c.v.cursor(table, le.Uint64(b))
		if err := far.words(&size); err != nil {
			return tree.Xattr{}, err
		}
		at = &far
	}
	if size > 64<<10 {
		return tree.Xattr{}, volume.Damaged("an attribute of %d bytes", size)
	}
	value, err := at.read(int64(size))
	return tree.Xattr{Name: []string{"user.", "trusted.", "security."}[kind&0xff] + string(name), Value: value}, err
}

// Data reads the list of a file's blocks.
func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	p := n.Private.(*inode)
	f := &file{v: v, p: p, size: n.Size}
	count := n.Size / v.blockSize
	if p.fragment == none && n.Size%v.blockSize != 0 {
		count++
	}
	c := p.sizes
	b, err := c.read(4 * count)
	if err != nil {
		return nil, err
	}
	for ; len(b) > 0; b = b[4:] {
		f.sizes = append(f.sizes, binary.LittleEndian.Uint32(b))
	}
	f.at = p.start
	return f, nil
}

// file is a file's data. It remembers where a block lies, so that reading
// on does not count from the beginning.
type file struct {
	v     *reader
	p     *inode
	size  int64
	sizes []uint32
	index int64
	at    int64 // of block index
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
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
			return done, volume.Damaged("a block is too short")
		} else {
			copy(b[done:done+int(n)], block[off%bs:])
		}
		done, off = done+int(n), off+n
	}
	return done, nil
}

// block is one of a file's, nil for zeros.
func (f *file) block(i int64) ([]byte, error) {
	if i >= int64(len(f.sizes)) {
		return f.tail()
	}
	if i < f.index {
		f.index, f.at = 0, f.p.start
	}
	for ; f.index < i; f.index++ {
		f.at += int64(f.sizes[f.index] &^ plain)
	}
	if f.sizes[i]&^plain == 0 {
		return nil, nil
	}
	return f.v.dataBlock(f.at, f.sizes[i])
}

// tail is the end of the file, in a block that it shares.
func (f *file) tail() ([]byte, error) {
	if f.p.fragment >= binary.LittleEndian.Uint32(f.v.sb[16:]) {
		return nil, volume.Damaged("fragment %d is not listed", f.p.fragment)
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
		return nil, volume.Damaged("a fragment is too short")
	}
	return b[f.p.offset:], nil
}

// dataBlock reads a block of data, or remembers it.
func (v *reader) dataBlock(at int64, word uint32) ([]byte, error) {
	if b, ok := v.blocks[at]; ok {
		return b, nil
	}
	size := int64(word &^ plain)
	if size > v.blockSize {
		return nil, volume.Damaged("a block of %d bytes", size)
	}
	b, err := v.r.Bytes(at, int(size))
	if err == nil && word&plain == 0 {
		b, err = v.unpack(b, v.blockSize)
	}
	if err != nil {
		return nil, err
	}
	if len(v.order) >= dataKept {
		delete(v.blocks, v.order[0])
		v.order = slices.Delete(v.order, 0, 1)
	}
	v.blocks[at], v.order = b, append(v.order, at)
	return b, nil
}

// Probe reads the superblock of squashfs 4.
func Probe(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 0, 96)
	if err != nil || string(b[:4]) != "hsqs" || binary.LittleEndian.Uint16(b[28:]) != 4 {
		return tree.Info{}, err
	}
	le := binary.LittleEndian
	return tree.Info{Type: "squashfs", Size: volume.Bytes(le.Uint64(b[40:]), 1), BlockSize: int64(le.Uint32(b[12:]))}, nil
}
