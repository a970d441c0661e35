package iso9660

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// reader reads ISO 9660: the Rock Ridge tree where there is one, else
// Joliet's, else the plain one with names in lower case and without versions.
type reader struct {
	r         *volume.Pages
	blockSize int64
	top       []byte // the root's record
	joliet    bool
	rock      bool
	skip      int // bytes of a system use area before its entries
}

// node is where an object's data lies.
type node struct {
	parts  []part
	target string
	packed bool // zisofs
}

type part struct{ at, size int64 } // bytes

// Open reads the volume descriptors of an ISO 9660 image.
func Open(r *volume.Pages) (volume.Volume, error) {
	v := &reader{r: r}
	var joliet []byte
	for lba := int64(16); lba < 64; lba++ {
		b, err := r.Bytes(lba*sector, sector)
		if err != nil {
			return nil, err
		}
		if string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && v.top == nil:
			v.top, v.blockSize = b[156:190], int64(binary.LittleEndian.Uint16(b[128:]))
		case b[0] == 2 && joliet == nil && b[88] == '%' && b[89] == '/' && (b[90] == '@' || b[90] == 'C' || b[90] == 'E'):
			joliet = b[156:190]
		}
	}
	if v.top == nil || v.blockSize != 512 && v.blockSize != 1024 && v.blockSize != 2048 {
		return nil, volume.Damaged("the volume descriptor")
	}
	if err := v.findRock(); err != nil {
		return nil, err
	}
	if !v.rock && joliet != nil {
		v.top, v.joliet = joliet, true
	}
	return v, nil
}

// findRock searches for the mark (SP) that begins system use entries, in the
// root's record of itself.
func (v *reader) findRock() error {
	b, err := v.self(int64(binary.LittleEndian.Uint32(v.top[2:])) + int64(v.top[1]))
	if err != nil {
		return err
	}
	area := area(b)
	for _, skip := range []int{0, 14} {
		if len(area) >= skip+7 && string(area[skip:skip+2]) == "SP" && area[skip+4] == 0xbe && area[skip+5] == 0xef {
			// XA attributes stand before the mark, and what it says before the others.
			v.rock, v.skip = true, max(skip, int(area[skip+6]))
		}
	}
	return nil
}

// self is the first record of the directory at a block: its own.
func (v *reader) self(block int64) ([]byte, error) {
	b, err := v.r.Bytes(block*v.blockSize, 1)
	if err != nil {
		return nil, err
	}
	size := int(b[0])
	if b, err = v.r.Bytes(block*v.blockSize, size); err != nil {
		return nil, err
	}
	if size < 34 || size < 33+int(b[32]) {
		return nil, volume.Damaged("a directory at block %d", block)
	}
	return b, nil
}

// area is the system use area of a record.
func area(b []byte) []byte {
	at := 33 + int(b[32])
	at += 1 - int(b[32])%2
	if at > len(b) {
		return nil
	}
	return b[at:]
}

func (v *reader) Xattrs(*volume.Node) ([]tree.Xattr, error) { return nil, nil }

func (v *reader) ReadLink(n *volume.Node) (string, error) { return n.Private.(*node).target, nil }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return e.Node, nil }

func (v *reader) dirSize(n *volume.Node) int64 { return n.Private.(*node).parts[0].size }

func (v *reader) at(block uint32, ear byte) int64 {
	return (int64(block) + int64(ear)) * v.blockSize
}

func (v *reader) plain() bool { return !v.rock && !v.joliet }

func (v *reader) Fold(name string) string {
	if v.plain() {
		return strings.ToLower(name)
	}
	return name
}

func (v *reader) Root() (*volume.Node, error) {
	n, _, err := v.record(v.top, 0)
	if err != nil || !v.rock {
		return n, err
	}
	return v.dirAt(n.Private.(*node).parts[0].at / v.blockSize)
}

// dirAt is the directory at a block, by its own record.
func (v *reader) dirAt(block int64) (*volume.Node, error) {
	b, err := v.self(block)
	if err != nil {
		return nil, err
	}
	n, _, err := v.record(b, block*v.blockSize)
	if err == nil && n.Kind() != unix.S_IFDIR {
		err = volume.Damaged("block %d holds no directory", block)
	}
	return n, err
}

func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	p := n.Private.(*node)
	if p.packed {
		return nil, errors.New("is compressed (zisofs), which cannot be read")
	}
	return &volume.Extents{Pages: v.r, Size: n.Size, Run: p.run}, nil
}

// run finds the part that holds a byte of the file.
func (p *node) run(off, _ int64) (at, n int64, err error) {
	for _, part := range p.parts {
		if off < part.size {
			return part.at + off, part.size - off, nil
		}
		off -= part.size
	}
	return 0, 0, io.EOF
}

// List reads a directory's records, which do not cross sectors.
func (v *reader) List(n *volume.Node) ([]volume.Entry, error) {
	size := v.dirSize(n)
	if size > volume.MaxDirBytes {
		return nil, volume.Damaged("a directory of %d bytes", size)
	}
	var out []volume.Entry
	more := false // the next record goes on with the file before
	for at, end := n.Private.(*node).parts[0].at, n.Private.(*node).parts[0].at+size; at < end; at += sector {
		b, err := v.r.Bytes(at, int(min(sector, end-at)))
		if err != nil {
			return nil, err
		}
		for pos := 0; pos < len(b) && b[pos] != 0; {
			size := int(b[pos])
			if size < 34 || pos+size > len(b) || 33+int(b[pos+32]) > size {
				return nil, volume.Damaged("a directory record of %d bytes", size)
			}
			rec := b[pos : pos+size]
			pos += size
			if rec[32] == 1 && rec[33] <= 1 {
				continue // the directory itself and its parent
			}
			if out, err = v.add(out, rec, at+int64(pos-size), more); err != nil {
				return nil, err
			}
			more = rec[25]&0x80 != 0
		}
	}
	return out, nil
}

// add appends a record to a list, or to the file before it.
func (v *reader) add(out []volume.Entry, rec []byte, at int64, more bool) ([]volume.Entry, error) {
	n, r, err := v.record(rec, at)
	if err != nil {
		return nil, err
	}
	if more && len(out) > 0 && n.Kind() == unix.S_IFREG {
		last := out[len(out)-1].Node
		p := last.Private.(*node)
		p.parts = append(p.parts, n.Private.(*node).parts...)
		last.Size += n.Size
		return out, nil
	}
	name := r.name
	if name == "" || !v.rock {
		name = v.name(rec[33 : 33+int(rec[32])])
	}
	if r.child != 0 { // relocated from here
		if n, err = v.dirAt(r.child); err != nil {
			return nil, err
		}
	}
	if r.moved || name == "" {
		return out, nil
	}
	return volume.Append(out, volume.Entry{Name: name, Kind: n.Kind(), Node: n})
}

// record decodes a directory record that lies at a byte offset.
func (v *reader) record(b []byte, at int64) (*volume.Node, *posix, error) {
	le := binary.LittleEndian
	p := &node{parts: []part{{v.at(le.Uint32(b[2:]), b[1]), int64(le.Uint32(b[10:]))}}}
	n := &volume.Node{Mode: unix.S_IFREG | 0o644, Size: p.parts[0].size, Sec: date7(b[18:]), Private: p}
	n.Links = 1
	if b[25]&2 != 0 {
		n.Mode = unix.S_IFDIR | 0o755
	}
	if (b[26] != 0 || b[27] != 0) && n.Size > 0 {
		return nil, nil, errors.New("a file is interleaved, which cannot be read")
	}
	r := &posix{n: n}
	if v.rock {
		area := area(b)
		if len(b) > 33 && (b[32] != 1 || b[33] != 0 || !strings.HasPrefix(string(area), "SP")) {
			area = area[min(v.skip, len(area)):]
		}
		if err := v.rockRidge(area, r); err != nil {
			return nil, nil, err
		}
		r.finish()
	}
	switch {
	case n.Kind() == unix.S_IFDIR:
		n.Inode, n.Size = uint64(p.parts[0].at), 0
	case n.Size > 0:
		n.Inode = uint64(p.parts[0].at)
	default:
		n.Inode, n.Links = 1<<48|uint64(at), 1
	}
	return n, r, nil
}

// name decodes an identifier of the plain tree or of Joliet's.
func (v *reader) name(id []byte) string {
	if v.joliet {
		return withoutVersion(utf16BE(id))
	}
	return strings.TrimSuffix(strings.ToLower(withoutVersion(string(id))), ".")
}

// withoutVersion cuts the ";1" off a file's name.
func withoutVersion(name string) string {
	if i := strings.LastIndexByte(name, ';'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" {
		return name[:i]
	}
	return name
}

// date7 is the opposite of putDate7; the last byte is the time zone, in
// quarters of an hour.
func date7(b []byte) int64 {
	if b[1] == 0 || b[2] == 0 {
		return 0
	}
	t := time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, time.UTC)
	return t.Unix() - int64(int8(b[6]))*900
}
