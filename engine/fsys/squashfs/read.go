package squashfs

import (
	"encoding/binary"
	"io"
	"slices"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Bounds on what an image may make a reader keep.
const (
	minBlock  = 4096    // bytes
	maxBlock  = 1 << 20 // bytes
	blocks    = 1 << 22 // blocks of one file
	xattrSize = 1 << 20 // bytes of one file's attributes
	metaKept  = 256     // blocks of metadata
	dataKept  = 8       // blocks of data
)

// reader reads squashfs 4.0.
type reader struct {
	r         *volume.Pages
	blockSize int64
	sb        superblock
	decode    decoder
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
	dir              uint64 // reference to a directory's entries
	listing          int64  // bytes of them
	start            int64
	fragment, offset uint32
	sizes            cursor // where the block sizes stand
	target           string
	xattr            uint32
}

// Open reads the superblock of a squashfs image.
func Open(r *volume.Pages) (volume.Volume, error) {
	b, err := r.Bytes(0, super)
	if err != nil {
		return nil, err
	}
	v := &reader{r: r, meta: make(map[int64]metaBlock), blocks: make(map[int64][]byte)}
	if _, err := unpack(b, &v.sb); err != nil {
		return nil, err
	}
	v.blockSize = int64(v.sb.BlockSize)
	if v.blockSize < minBlock || v.blockSize > maxBlock || v.blockSize&(v.blockSize-1) != 0 {
		return nil, volume.Damaged("blocks of %d bytes", v.blockSize)
	}
	v.decode, err = newDecoder(v.sb.Compression)
	return v, err
}

func (v *reader) Fold(name string) string { return name }

func (v *reader) Root() (*volume.Node, error) { return v.inode(v.sb.Root) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return v.inode(e.Number) }

func (v *reader) ReadLink(n *volume.Node) (string, error) { return n.Private.(*inode).target, nil }

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
		b, err = v.decode.decompress(b, meta)
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

// decode reads values of fixed size.
func (c *cursor) decode(values ...any) error {
	for _, value := range values {
		b, err := c.read(int64(binary.Size(value)))
		if err != nil {
			return err
		}
		if _, err := unpack(b, value); err != nil {
			return err
		}
	}
	return nil
}

// indexed reads an entry of a table whose blocks are listed at a byte.
func (v *reader) indexed(list uint64, i int64, entry any) error {
	at := i * int64(binary.Size(entry))
	b, err := v.r.Bytes(int64(list&(1<<62-1))+at/meta*8, 8)
	if err != nil {
		return err
	}
	c := v.cursor(binary.LittleEndian.Uint64(b), uint64(at%meta))
	return c.decode(entry)
}

func (v *reader) id(i uint16) (id uint32, err error) {
	if i >= v.sb.IDs {
		return 0, volume.Damaged("owner %d is not listed", i)
	}
	err = v.indexed(v.sb.IDTable, int64(i), &id)
	return id, err
}

func (v *reader) inode(ref uint64) (*volume.Node, error) {
	c := v.cursor(v.sb.InodeTable, ref)
	var h inodeHead
	if err := c.decode(&h); err != nil {
		return nil, err
	}
	kind, extended := h.Kind, h.Kind > ext
	if extended {
		kind -= ext
	}
	if kind < 1 || kind > ext {
		return nil, volume.Damaged("an object of type %d", kind)
	}
	p := &inode{xattr: none}
	n := &volume.Node{Mode: kinds()[kind] | uint32(h.Mode)&0o7777, Sec: int64(h.Time), Private: p}
	n.Inode, n.Links = uint64(h.Number), 1
	var err error
	if n.UID, err = v.id(h.UID); err != nil {
		return nil, err
	}
	if n.GID, err = v.id(h.GID); err != nil {
		return nil, err
	}
	switch kind {
	case dir:
		err = c.directory(n, p, extended)
	case reg:
		err = c.file(n, p, extended)
	default:
		err = c.special(n, p, extended)
	}
	return n, err
}

func (c *cursor) directory(n *volume.Node, p *inode, extended bool) error {
	var d longDir
	var err error
	if extended {
		err = c.decode(&d)
		p.xattr = d.Xattr
	} else {
		var short shortDir
		err = c.decode(&short)
		d = longDir{Links: short.Links, Size: uint32(short.Size), Block: short.Block, Offset: short.Offset}
	}
	n.Links, p.listing = d.Links, int64(d.Size)-3
	p.dir = uint64(d.Block)<<16 | uint64(d.Offset)
	return err
}

func (c *cursor) file(n *volume.Node, p *inode, extended bool) error {
	var f longFile
	var err error
	if extended {
		err = c.decode(&f)
		n.Links, p.xattr = f.Links, f.Xattr
	} else {
		var short shortFile
		err = c.decode(&short)
		f = longFile{Start: uint64(short.Start), Size: uint64(short.Size), Fragment: short.Fragment, Offset: short.Offset}
	}
	p.start, p.fragment, p.offset, p.sizes = int64(f.Start), f.Fragment, f.Offset, *c
	n.Size = int64(f.Size)
	if err == nil && (p.start < 0 || n.Size < 0 || n.Size > blocks*c.v.blockSize) {
		err = volume.Damaged("a file of %d bytes at %d", n.Size, p.start)
	}
	return err
}

func (c *cursor) special(n *volume.Node, p *inode, extended bool) error {
	if err := c.decode(&n.Links); err != nil {
		return err
	}
	var word uint32
	switch n.Kind() {
	case unix.S_IFLNK:
		if err := c.decode(&word); err != nil {
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
		if err := c.decode(&word); err != nil {
			return err
		}
		n.Major, n.Minor = word>>8&0xfff, word&0xff|word>>12&0xfff00
	}
	if extended {
		return c.decode(&p.xattr)
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
	c := v.cursor(v.sb.DirTable, p.dir)
	b, err := c.read(p.listing)
	if err != nil {
		return nil, err
	}
	var out []volume.Entry
	for {
		var run dirRun
		if b, err = unpack(b, &run); err != nil {
			return out, nil // the end
		}
		if run.Count > 255 {
			return nil, volume.Damaged("a run of %d entries", run.Count)
		}
		for range run.Count + 1 {
			var e dirEntry
			if b, err = unpack(b, &e); err != nil || len(b) <= int(e.Length) {
				return nil, volume.Damaged("a directory entry is cut off")
			}
			name := string(b[:int(e.Length)+1])
			if len(name) > tree.MaxName || name == "." || name == ".." {
				return nil, volume.Damaged("%.40q is no name", name)
			}
			if out, err = volume.Append(out, volume.Entry{Name: name, Number: uint64(run.Block)<<16 | uint64(e.Offset)}); err != nil {
				return nil, err
			}
			b = b[len(name):]
		}
	}
}

func (v *reader) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	p, at := n.Private.(*inode), v.sb.XattrTable
	if p.xattr == none || at == noTable {
		return nil, nil
	}
	var table xattrTable
	b, err := v.r.Bytes(int64(at&(1<<62-1)), binary.Size(table))
	if err != nil {
		return nil, err
	}
	if _, err := unpack(b, &table); err != nil {
		return nil, err
	}
	if p.xattr >= table.Count {
		return nil, volume.Damaged("attributes %d are not listed", p.xattr)
	}
	var set xattrSet
	if err := v.indexed(at+uint64(len(b)), int64(p.xattr), &set); err != nil {
		return nil, err
	}
	c := v.cursor(table.Start, set.Ref)
	var out []tree.Xattr
	for left, read := set.Count, 0; left > 0; left-- {
		x, err := c.xattr(table.Start)
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
	var kind, length uint16
	if err := c.decode(&kind, &length); err != nil {
		return tree.Xattr{}, err
	}
	space := int(kind & 0xff)
	if space >= len(namespaces()) {
		return tree.Xattr{}, volume.Damaged("an attribute of type %d", kind)
	}
	name, err := c.read(int64(length))
	if err != nil {
		return tree.Xattr{}, err
	}
	var size uint32
	if err := c.decode(&size); err != nil {
		return tree.Xattr{}, err
	}
	at := c
	if kind&0x100 != 0 {
		var ref uint64
		if err := c.decode(&ref); err != nil {
			return tree.Xattr{}, err
		}
		far := c.v.cursor(table, ref)
		if err := far.decode(&size); err != nil {
			return tree.Xattr{}, err
		}
		at = &far
	}
	if size > 64<<10 {
		return tree.Xattr{}, volume.Damaged("an attribute of %d bytes", size)
	}
	value, err := at.read(int64(size))
	return tree.Xattr{Name: namespaces()[space] + string(name), Value: value}, err
}

// Data reads the list of a file's blocks.
func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	p := n.Private.(*inode)
	f := &file{v: v, p: p, size: n.Size}
	count := n.Size / v.blockSize
	if p.fragment == none && n.Size%v.blockSize != 0 {
		count++
	}
	f.sizes, f.at = make([]uint32, count), p.start
	c := p.sizes
	return f, c.decode(f.sizes)
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
	if f.p.fragment >= f.v.sb.Fragments {
		return nil, volume.Damaged("fragment %d is not listed", f.p.fragment)
	}
	var e fragment
	if err := f.v.indexed(f.v.sb.FragmentTable, int64(f.p.fragment), &e); err != nil {
		return nil, err
	}
	b, err := f.v.dataBlock(int64(e.Start&(1<<62-1)), e.Size)
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
		b, err = v.decode.decompress(b, v.blockSize)
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
	b, err := volume.Peek(r, 0, super)
	if err != nil {
		return tree.Info{}, err
	}
	var sb superblock
	if _, err := unpack(b, &sb); err != nil || sb.Magic != magic || sb.Version != 4 {
		return tree.Info{}, err
	}
	return tree.Info{Type: "squashfs", Size: volume.Bytes(sb.Used, 1), BlockSize: int64(sb.BlockSize)}, nil
}
