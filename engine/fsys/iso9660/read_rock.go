package iso9660

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// maxRockArea bounds the system use entries of one record, in bytes.
const maxRockArea = 64 << 10

// rockAttrs is what the system use entries of a record say.
type rockAttrs struct {
	mode, links, uid, gid uint32
	posix                 bool
	name                  string
	target                []byte
	joined                bool // the last component of target goes on
	linked                bool
	sec                   int64
	timed                 bool
	major, minor          uint32
	device                bool
	child                 int64 // block of a relocated directory
	moved                 bool  // is the relocated directory: listed elsewhere
	packed                bool
}

// apply puts them on a record's object.
func (r *rockAttrs) apply(n *tree.Node) {
	p := n.Priv.(*node)
	if r.posix {
		n.Mode, n.Links, n.UID, n.GID = r.mode, r.links, r.uid, r.gid
	}
	if r.timed {
		n.Sec = r.sec
	}
	if r.device {
		n.Major, n.Minor = r.major, r.minor
	}
	p.packed = r.packed
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFLNK:
		p.target, n.Size = string(r.target), int64(len(r.target))
	default:
		n.Size = 0
	}
}

// rockRidge reads system use entries, and the areas they continue in.
func (v *volume) rockRidge(area []byte, r *rockAttrs) error {
	for read := len(area); area != nil; read += len(area) {
		if read > maxRockArea {
			return tree.Damaged("the attributes of one file take more than %d bytes", maxRockArea)
		}
		next, size := int64(0), int64(0)
		for len(area) >= 4 {
			n := int(area[2])
			if n < 4 || n > len(area) {
				break // padding
			}
			sig, b := string(area[:2]), area[4:n]
			area = area[n:]
			if sig == "ST" {
				break
			}
			if sig == "CE" && len(b) >= 24 {
				le := binary.LittleEndian
				next, size = int64(le.Uint32(b))*v.blockSize+int64(le.Uint32(b[8:])), int64(le.Uint32(b[16:]))
				continue
			}
			r.entry(sig, b)
		}
		if area = nil; size == 0 {
			break
		}
		if size > maxRockArea {
			return tree.Damaged("the attributes of one file take %d bytes", size)
		}
		var err error
		if area, err = v.r.Bytes(next, int(size)); err != nil {
			return err
		}
	}
	return nil
}

// tree.Entry takes one; b is what follows its header.
func (r *rockAttrs) entry(sig string, b []byte) {
	le := binary.LittleEndian
	switch {
	case sig == "PX" && len(b) >= 32:
		r.posix = true
		r.mode, r.links, r.uid, r.gid = le.Uint32(b), le.Uint32(b[8:]), le.Uint32(b[16:]), le.Uint32(b[24:])
	case sig == "PN" && len(b) >= 16:
		r.device = true
		r.major, r.minor = le.Uint32(b), le.Uint32(b[8:])
		if r.major == 0 && r.minor > 0xff {
			r.major, r.minor = r.minor>>8, r.minor&0xff
		}
	case sig == "TF" && len(b) >= 1:
		r.times(b[0], b[1:])
	case sig == "NM" && len(b) >= 1 && b[0]&6 == 0 && len(r.name) <= tree.MaxName:
		r.name += string(b[1:])
	case sig == "SL" && len(b) >= 1:
		r.link(b[1:])
	case sig == "CL" && len(b) >= 4:
		r.child = int64(le.Uint32(b))
	case sig == "RE":
		r.moved = true
	case sig == "ZF":
		r.packed = true
	}
}

// times takes the modification time; those that flags names before it come first.
func (r *rockAttrs) times(flags byte, b []byte) {
	size := 7
	if flags&0x80 != 0 {
		size = 17
	}
	if flags&1 != 0 { // creation
		b = b[min(size, len(b)):]
	}
	if flags&2 == 0 || len(b) < size {
		return
	}
	if size == 7 {
		r.sec, r.timed = date7(b), true
		return
	}
	if t, err := time.Parse("20060102150405", string(b[:14])); err == nil {
		r.sec, r.timed = t.Unix()-int64(int8(b[16]))*900, true
	}
}

// link appends the components of a symbolic link.
func (r *rockAttrs) link(b []byte) {
	for ; len(b) >= 2 && len(b) >= 2+int(b[1]) && len(r.target) <= tree.MaxPath; b = b[2+int(b[1]):] {
		flags, text := b[0], string(b[2:2+int(b[1])])
		switch {
		case flags&8 != 0: // what mkisofs makes of "//", too
			text = "/"
		case flags&2 != 0:
			text = "."
		case flags&4 != 0:
			text = ".."
		}
		if r.linked && !r.joined {
			r.target = append(r.target, '/')
		}
		r.target = append(r.target, text...)
		r.linked, r.joined = true, flags&(1|8) != 0
	}
}
