package iso9660

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Rock Ridge (IEEE P1282, version 1.12) stores POSIX attributes as system use
// entries (SUSP 1.12) behind the directory records.

// suspMax is the length of one entry, recordMax of a record, in bytes.
const (
	suspMax   = 255
	recordMax = 254
	suspCE    = 28 // the entry that points to a continuation
)

func suspEntry(sig string, data []byte) []byte {
	out := append([]byte(sig), byte(4+len(data)), 1)
	return append(out, data...)
}

// rockRidge lists the entries of a record; in is the directory that holds it.
func rockRidge(e entry, in *dir) [][]byte {
	var list [][]byte
	self := len(e.id) == 1 && e.id[0] == 0
	if self && in.parent == in {
		list = append(list, suspEntry("SP", []byte{0xbe, 0xef, 0}))
	}
	list = append(list, posixEntry(e.ino), timeEntry(e.ino))
	if n := e.ino; n.Kind() == unix.S_IFCHR || n.Kind() == unix.S_IFBLK {
		b := make([]byte, 16)
		high, low := n.Major, n.Minor
		if n.Minor < 256 {
			high, low = 0, n.Major<<8|n.Minor // as all readers know it
		}
		putBoth32(b, high)
		putBoth32(b[8:], low)
		list = append(list, suspEntry("PN", b))
	}
	if e.name != "" {
		list = append(list, nameEntries(e.name)...)
	}
	if e.ino.IsLink() {
		list = append(list, linkEntries(e.ino.Target)...)
	}
	if self && in.parent == in {
		const id = "IEEE_P1282"
		list = append(list, suspEntry("ER", append([]byte{byte(len(id)), 0, 0, 1}, id...)))
	}
	return list
}

// posixEntry is PX: mode, links, owner, group, serial number.
func posixEntry(n *tree.Inode) []byte {
	b := make([]byte, 40)
	for i, v := range []uint32{n.Mode, n.Links, n.UID, n.GID, n.Number} {
		putBoth32(b[8*i:], v)
	}
	return suspEntry("PX", b)
}

// timeEntry is TF with modification, access and attribute change time.
func timeEntry(n *tree.Inode) []byte {
	b := make([]byte, 1+3*7)
	b[0] = 0x0e
	for i := range 3 {
		putDate7(b[1+7*i:], n.Sec)
	}
	return suspEntry("TF", b)
}

// nameEntries is NM, twice for a name that does not fit into one.
func nameEntries(name string) [][]byte {
	var list [][]byte
	for {
		part, flag := name, byte(0)
		if room := suspMax - 5; len(name) > room {
			part, flag = name[:room], 1
		}
		list = append(list, suspEntry("NM", append([]byte{flag}, part...)))
		if name = name[len(part):]; name == "" {
			return list
		}
	}
}

// linkEntries is SL: the target in components, as many entries as it takes.
func linkEntries(target string) [][]byte {
	var list [][]byte
	var data []byte
	put := func(flags byte, text string) {
		if len(data)+2+len(text) > suspMax-5 {
			list = append(list, suspEntry("SL", append([]byte{1}, data...)))
			data = nil
		}
		data = append(append(data, flags, byte(len(text))), text...)
	}
	for _, part := range linkParts(target) {
		switch part {
		case "/":
			put(8, "")
		case ".":
			put(2, "")
		case "..":
			put(4, "")
		default:
			for len(part) > 240 {
				put(1, part[:240])
				part = part[240:]
			}
			put(0, part)
		}
	}
	return append(list, suspEntry("SL", append([]byte{0}, data...)))
}

// linkParts splits a path; a leading slash is the part "/". Doubled and
// trailing slashes, which mean nothing, are dropped.
func linkParts(target string) []string {
	parts := strings.FieldsFunc(target, func(c rune) bool { return c == '/' })
	if strings.HasPrefix(target, "/") {
		return slices.Insert(parts, 0, "/")
	}
	return parts
}

// more collects continuation areas, which lie behind the directories and do
// not cross sectors.
type more struct {
	first uint32 // sector
	data  []byte
}

// attach appends entries to a record; what does not fit goes to continuations.
func (m *more) attach(rec []byte, list [][]byte) []byte {
	rec, list = fitEntries(rec, list, recordMax-len(rec))
	ce := -1 // where in data the CE entry to be filled in begins; -1: in rec
	for len(list) > 0 {
		if left := sector - len(m.data)%sector; left < suspMax+suspCE {
			m.data = append(m.data, make([]byte, left)...)
		}
		at := len(m.data)
		area, rest := fitEntries(nil, list, sector-at%sector)
		pointer := rec[len(rec)-min(len(rec), suspCE):]
		if ce >= 0 {
			pointer = m.data[ce:]
		}
		putBoth32(pointer[4:], m.first+uint32(at/sector))
		putBoth32(pointer[12:], uint32(at%sector))
		putBoth32(pointer[20:], uint32(len(area)))
		m.data = append(m.data, area...)
		ce, list = len(m.data)-suspCE, rest
	}
	return rec
}

// fitEntries appends as many entries as room allows. When some are left, the
// last one appended is a CE entry to be filled in.
func fitEntries(b []byte, list [][]byte, room int) ([]byte, [][]byte) {
	total := 0
	for _, e := range list {
		total += len(e)
	}
	for len(list) > 0 && (total <= room || len(list[0]) <= room-suspCE) {
		b = append(b, list[0]...)
		room, total, list = room-len(list[0]), total-len(list[0]), list[1:]
	}
	if len(list) > 0 {
		b = append(b, suspEntry("CE", make([]byte, suspCE-4))...)
	}
	return b, list
}

// maxArea bounds the system use entries of one record, in bytes.
const maxArea = 64 << 10

// posix is what the system use entries of a record say of its object n, beyond
// what they set in it.
type posix struct {
	n      *volume.Node
	name   string
	target []byte
	joined bool // the last component of target goes on
	linked bool
	child  int64 // block of a relocated directory
	moved  bool  // is the relocated directory: listed elsewhere
	packed bool
}

// finish sets what follows from all entries together.
func (r *posix) finish() {
	p := r.n.Private.(*node)
	p.packed = r.packed
	switch r.n.Kind() {
	case unix.S_IFREG, unix.S_IFDIR:
	case unix.S_IFLNK:
		p.target, r.n.Size = string(r.target), int64(len(r.target))
	default:
		r.n.Size = 0
	}
}

// rockRidge reads system use entries, and the areas they continue in.
func (v *reader) rockRidge(area []byte, r *posix) error {
	for read := len(area); area != nil; read += len(area) {
		if read > maxArea {
			return volume.Damaged("the attributes of one file take more than %d bytes", maxArea)
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
		if size > maxArea {
			return volume.Damaged("the attributes of one file take %d bytes", size)
		}
		var err error
		if area, err = v.r.Bytes(next, int(size)); err != nil {
			return err
		}
	}
	return nil
}

// entry reads one; b is what follows its header.
func (r *posix) entry(sig string, b []byte) {
	le, n := binary.LittleEndian, r.n
	switch {
	case sig == "PX" && len(b) >= 32:
		n.Mode, n.Links, n.UID, n.GID = le.Uint32(b), le.Uint32(b[8:]), le.Uint32(b[16:]), le.Uint32(b[24:])
	case sig == "PN" && len(b) >= 16:
		n.Major, n.Minor = le.Uint32(b), le.Uint32(b[8:])
		if n.Major == 0 && n.Minor > 0xff {
			n.Major, n.Minor = n.Minor>>8, n.Minor&0xff
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

// times reads the modification time; those that flags names before it come first.
func (r *posix) times(flags byte, b []byte) {
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
		r.n.Sec = date7(b)
		return
	}
	if t, err := time.Parse("20060102150405", string(b[:14])); err == nil {
		r.n.Sec = t.Unix() - int64(int8(b[16]))*900
	}
}

// link appends the components of a symbolic link.
func (r *posix) link(b []byte) {
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
