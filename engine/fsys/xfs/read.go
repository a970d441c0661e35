package xfs

import (
	"errors"
	"io"
	"sort"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Bounds on what an image may make a reader keep.
const (
	maxPieces = 1 << 21 // extents of one file
	maxAttrs  = 1 << 12 // blocks of attributes of one inode
	maxValues = 1 << 24 // bytes of all attributes of one inode
	maxLevels = 12      // of a tree
)

// reader reads XFS of version 4 and 5.
type reader struct {
	r         *volume.Pages
	geo       geometry
	five      bool // version 5, with checksums
	kinds     bool // entries of directories tell the kind
	dirHeader int64
	dirSize   int64 // bytes of a directory's block
}

// inode is where an object's forks lie.
type inode struct {
	data, attr             []byte
	dataFormat, attrFormat byte
	pieces, attrPieces     uint64
	realtime               bool // the data lies on a device of its own
}

// piece is an extent as it was read; a piece that was never written to holds zeros.
type piece struct {
	extent
	unwritten bool
}

// Open reads the superblock of an xfs. One whose log waits to be replayed, which a mount
// does, is an error, since its files may not be what they seem.
func Open(r *volume.Pages) (volume.Volume, error) {
	b, err := r.Bytes(0, sector)
	if err != nil {
		return nil, err
	}
	v := &reader{r: r}
	if v.geo, err = parseSuper(b); err != nil {
		return nil, volume.Damaged("%w", err)
	}
	v.five = v.geo.version&0xf == 5
	v.kinds = v.five && v.geo.incompat&incompatFtype != 0 || !v.five && be.Uint32(b[200:])&0x200 != 0
	v.dirSize, v.dirHeader = v.geo.blockSize<<v.geo.dirLog, 16
	if v.five {
		v.dirHeader = dataHeader
	}
	return v, v.checkLog(be.Uint64(b[48:]), int64(be.Uint32(b[96:])))
}

func (v *reader) Fold(name string) string { return name }

func (v *reader) Root() (*volume.Node, error) { return v.inode(v.geo.root) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return v.inode(e.Number) }

func (v *reader) inode(number uint64) (*volume.Node, error) {
	block := number >> v.geo.inodePerLg
	if block>>v.geo.agLog >= uint64(v.geo.agCount) || block&(1<<v.geo.agLog-1) >= uint64(v.geo.agBlocks) {
		return nil, volume.Damaged("inode %d lies outside", number)
	}
	b, err := v.r.Bytes(v.geo.byteOf(block)+int64(number&(1<<v.geo.inodePerLg-1))*v.geo.inodeSize, int(v.geo.inodeSize))
	if err != nil {
		return nil, err
	}
	size := int64(be.Uint64(b[56:]))
	if string(b[:2]) != "IN" || size < 0 {
		return nil, volume.Damaged("inode %d is none", number)
	}
	p, err := forks(b)
	if err != nil {
		return nil, err
	}
	n := &volume.Node{Mode: uint32(be.Uint16(b[2:])), Size: size, Private: p}
	n.Inode, n.Links, n.UID, n.GID = number, be.Uint32(b[16:]), be.Uint32(b[8:]), be.Uint32(b[12:])
	n.Sec, n.Nsec = int64(int32(be.Uint32(b[40:]))), be.Uint32(b[44:])
	if b[4] == 3 && be.Uint64(b[120:])&8 != 0 {
		at := be.Uint64(b[40:])
		n.Sec, n.Nsec = int64(at/1e9)-1<<31, uint32(at%1e9)
	}
	if k := n.Kind(); k == unix.S_IFCHR || k == unix.S_IFBLK {
		dev := be.Uint32(p.data)
		n.Major, n.Minor = dev>>18, dev&(1<<18-1)
	}
	return n, nil
}

// forks finds the forks of an inode.
func forks(b []byte) (*inode, error) {
	core := 100
	p := &inode{dataFormat: b[5], attrFormat: b[83], pieces: uint64(be.Uint32(b[76:])), attrPieces: uint64(be.Uint16(b[80:])), realtime: be.Uint16(b[90:])&1 != 0}
	if b[4] == 3 {
		core = coreSize
		if be.Uint64(b[120:])&16 != 0 { // counts of 64 bits
			p.pieces, p.attrPieces = be.Uint64(b[24:]), uint64(be.Uint32(b[76:]))
		}
	}
	p.data = b[core:]
	if off := int(b[82]) * 8; off > 0 {
		if off >= len(p.data) {
			return nil, volume.Damaged("an inode's forks overlap")
		}
		p.data, p.attr = p.data[:off], p.data[off:]
	}
	return p, nil
}

// pieceOf reads an extent.
func pieceOf(b []byte) piece {
	a, c := be.Uint64(b), be.Uint64(b[8:])
	return piece{extent{a >> 9 & (1<<54 - 1), a&(1<<9-1)<<43 | c>>21, c & (1<<21 - 1)}, a>>63 != 0}
}

// pieces reads all extents of a fork, in order.
func (v *reader) pieces(fork []byte, format byte, n uint64) (list []piece, err error) {
	switch format {
	case formatExtents:
		if n > uint64(len(fork)/16) {
			return nil, volume.Damaged("%d extents in an inode", n)
		}
		for i := range int(n) {
			list = append(list, pieceOf(fork[16*i:]))
		}
	case formatBtree:
		if list, err = v.treePieces(fork); err != nil {
			return nil, err
		}
	default:
		return nil, volume.Damaged("a fork of format %d", format)
	}
	end, most := uint64(0), uint64(1<<63-1)>>v.geo.blockLog
	for _, p := range list {
		if p.logical < end || p.count == 0 || p.logical+p.count > most || p.block>>v.geo.agLog >= uint64(v.geo.agCount) || p.block&(1<<v.geo.agLog-1)+p.count > uint64(v.geo.agBlocks) {
			return nil, volume.Damaged("an extent lies outside or in another one")
		}
		end = p.logical + p.count
	}
	return list, nil
}

func (v *reader) treePieces(fork []byte) ([]piece, error) {
	level, n, most := int(be.Uint16(fork)), int(be.Uint16(fork[2:])), (len(fork)-4)/16
	if level == 0 || level > maxLevels || n == 0 || n > most {
		return nil, volume.Damaged("a tree of %d levels", level)
	}
	at := be.Uint64(fork[4+8*most:])
	header := int64(24)
	if v.five {
		header = longHeader
	}
	room := (v.geo.blockSize - header) / 16
	var list []piece
	for level--; ; { // down at the left, then to the right along the leaves
		b, err := v.block(at)
		if err != nil {
			return nil, err
		}
		n := int64(be.Uint16(b[6:]))
		if m := string(b[:4]); m != "BMAP" && m != "BMA3" || int(be.Uint16(b[4:])) != level || n == 0 || n > room {
			return nil, volume.Damaged("block %d is none of a file's tree", at)
		}
		if level > 0 {
			at, level = be.Uint64(b[header+8*room:]), level-1
			continue
		}
		if k := len(list); k > 0 && pieceOf(b[header:]).logical < list[k-1].logical+list[k-1].count {
			return nil, volume.Damaged("block %d of a file's tree is not in order", at)
		}
		for i := range n {
			list = append(list, pieceOf(b[header+16*i:]))
		}
		if at = be.Uint64(b[16:]); at == 1<<64-1 {
			return list, nil
		}
		if len(list) > maxPieces {
			return nil, volume.Damaged("a file in more than %d pieces", maxPieces)
		}
	}
}

func (v *reader) block(fsb uint64) ([]byte, error) {
	if fsb>>v.geo.agLog >= uint64(v.geo.agCount) {
		return nil, volume.Damaged("block %d lies outside", fsb)
	}
	return v.r.Bytes(v.geo.byteOf(fsb), int(v.geo.blockSize))
}

// extents is a fork's data.
func (v *reader) extents(list []piece, size int64) *volume.Extents {
	bs := v.geo.blockSize
	run := func(off, _ int64) (at, n int64, err error) {
		block := uint64(off / bs)
		i := sort.Search(len(list), func(i int) bool { return list[i].logical+list[i].count > block })
		if i == len(list) {
			return volume.Hole, size - off, nil
		}
		p := list[i]
		if block < p.logical {
			return volume.Hole, int64(p.logical)*bs - off, nil
		}
		n = int64(p.logical+p.count)*bs - off
		if p.unwritten {
			return volume.Hole, n, nil
		}
		return v.geo.byteOf(p.block+block-p.logical) + off%bs, n, nil
	}
	return &volume.Extents{Pages: v.r, Size: size, Run: run}
}

func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	p := n.Private.(*inode)
	if p.realtime && n.Size > 0 {
		return nil, errRealtime
	}
	list, err := v.pieces(p.data, p.dataFormat, p.pieces)
	if err != nil {
		return nil, err
	}
	return v.extents(list, n.Size), nil
}

var errRealtime = errors.New("its data lies on the real-time device of its xfs, which b9 does not read: copy the file to the data device first")

func (v *reader) ReadLink(n *volume.Node) (string, error) {
	p := n.Private.(*inode)
	if n.Size >= volume.MaxLinkTarget {
		return "", volume.Damaged("a link of %d bytes", n.Size)
	}
	if p.dataFormat == formatLocal {
		if n.Size > int64(len(p.data)) {
			return "", volume.Damaged("a link of %d bytes in an inode", n.Size)
		}
		return string(p.data[:n.Size]), nil
	}
	list, err := v.pieces(p.data, p.dataFormat, p.pieces)
	if err != nil {
		return "", err
	}
	var target []byte
	for _, p := range list {
		for i := range p.count {
			b, err := v.block(p.block + i)
			if err != nil {
				return "", err
			}
			if v.five {
				b = b[56:]
			}
			if target = append(target, b...); int64(len(target)) >= n.Size {
				return string(target[:n.Size]), nil
			}
		}
	}
	return "", volume.Damaged("a link is cut off")
}

// checkLog finds the record that was written last, and refuses a log that does not end
// with an unmount. Every sector of a log begins with the number of the round in which it
// was written, or has it behind the number of a record: where that number changes is the end.
func (v *reader) checkLog(start uint64, blocks int64) error {
	sectors := blocks * v.geo.blockSize / sector
	if start == 0 || sectors == 0 {
		return nil // the log lies on another disk
	}
	base := v.geo.byteOf(start)
	word := func(i int64) (w uint32, record bool, err error) {
		b, err := v.r.Bytes(base+i*sector, 8)
		if err != nil {
			return 0, false, err
		}
		if w = be.Uint32(b); w == 0xfeedbabe {
			return be.Uint32(b[4:]), true, nil
		}
		return w, false, nil
	}
	first, _, err := word(0)
	if err != nil || first == 0 {
		return err
	}
	var failed error
	end := int64(sort.Search(int(sectors), func(i int) bool {
		w, _, err := word(int64(i))
		failed = errors.Join(failed, err)
		return w != first
	}))
	for back := int64(1); failed == nil && back <= min(sectors, 1024); back++ {
		at := (end - back + sectors) % sectors
		_, record, err := word(at)
		if err != nil {
			return err
		}
		if record {
			return v.checkRecord(base, at, sectors)
		}
	}
	return errors.Join(failed, errLog)
}

var errLog = errors.New("its log waits to be replayed, as after a crash: mount it once, as a step of lxc_exec does")

func (v *reader) checkRecord(base, at, sectors int64) error {
	head, err := v.r.Bytes(base+at*sector, sector)
	if err != nil {
		return err
	}
	skip := int64(1)
	if n := int64(be.Uint32(head[320:])); be.Uint32(head[8:])&2 != 0 && n > 32<<10 {
		skip = (n + 32<<10 - 1) / (32 << 10)
	}
	op, err := v.r.Bytes(base+(at+skip)%sectors*sector, 12)
	if err == nil && op[9]&0x20 == 0 {
		err = errLog
	}
	return err
}

// Xattrs translates the names.
func (v *reader) Xattrs(n *volume.Node) ([]tree.Xattr, error) {
	p := n.Private.(*inode)
	var list []attr
	var err error
	switch {
	case p.attr == nil:
		return nil, nil
	case p.attrFormat == formatLocal:
		list, err = shortAttrs(p.attr)
	default:
		list, err = v.leafAttrs(p)
	}
	if err != nil {
		return nil, err
	}
	var out []tree.Xattr
	for _, a := range list {
		x := tree.Xattr{Name: map[byte]string{0: "user.", attrRoot: "trusted.", attrSecure: "security."}[a.space] + a.name, Value: a.value}
		if a.space == attrRoot && (a.name == aclAccess || a.name == aclDefault) {
			var ok bool
			if x.Value, ok = aclFromDisk(a.value); !ok {
				return nil, volume.Damaged("an access control list of %d bytes", len(a.value))
			}
			x.Name = map[string]string{aclAccess: tree.ACLAccess, aclDefault: tree.ACLDefault}[a.name]
		}
		out = append(out, x)
	}
	return out, nil
}
