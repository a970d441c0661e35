package vfat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"b9.build/b9/engine/fsys/tree"
)

// entry is a file or directory under its two names. long is empty when the
// short name says it all.
type entry struct {
	inode *tree.Inode
	short [11]byte
	long  []uint16
}

// names keeps the names of one directory apart.
type names struct {
	folded map[string]string   // upper case to the name as given
	short  map[[11]byte]bool   // in use
	next   map[[11]byte]uint32 // next number for a basis
}

func newNames() *names {
	return &names{folded: make(map[string]string), short: make(map[[11]byte]bool), next: make(map[[11]byte]uint32)}
}

// add returns the short name and the UTF-16 long name of a file.
func (f *names) add(name string) (short [11]byte, long []uint16, err error) {
	if err := checkName(name); err != nil {
		return short, nil, err
	}
	folded := strings.ToUpper(name)
	if old, ok := f.folded[folded]; ok {
		return short, nil, fmt.Errorf("differs from %q only in case, which vfat ignores", old)
	}
	f.folded[folded] = name
	basis, lossless := shortBasis(name)
	if lossless && !f.short[basis] {
		f.short[basis] = true
		if name != folded {
			long = utf16.Encode([]rune(name))
		}
		return basis, long, nil
	}
	short, err = f.number(basis)
	return short, utf16.Encode([]rune(name)), err
}

func checkName(name string) error {
	switch {
	case !utf8.ValidString(name):
		return errors.New("the name is not UTF-8")
	case len(utf16.Encode([]rune(name))) > 255:
		return errors.New("the name is longer than 255 characters")
	case strings.HasSuffix(name, ".") || strings.HasSuffix(name, " "):
		return errors.New("a vfat name cannot end with a dot or a space")
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7f || strings.ContainsRune(`"*/:<>?\|`, c) {
			return fmt.Errorf("a vfat name cannot hold %q", c)
		}
	}
	return nil
}

// shortBasis is the 8.3 form of a name, and whether only its case was lost.
func shortBasis(name string) (b [11]byte, lossless bool) {
	for i := range b {
		b[i] = ' '
	}
	stem, ext := strings.TrimLeft(name, "."), ""
	lossless = stem == name
	if i := strings.LastIndexByte(stem, '.'); i > 0 {
		stem, ext = stem[:i], stem[i+1:]
	}
	fill := func(dst []byte, s string) {
		n := 0
		for _, c := range strings.ToUpper(s) {
			switch {
			case c == ' ' || c == '.':
				lossless = false
				continue
			case c > 0x7e || strings.ContainsRune("+,;=[]", c):
				c, lossless = '_', false
			}
			if n == len(dst) {
				lossless = false
				return
			}
			dst[n] = byte(c)
			n++
		}
	}
	fill(b[:8], stem)
	fill(b[8:], ext)
	if b[0] == ' ' {
		b[0], lossless = '_', false
	}
	return b, lossless
}

// number appends ~1, ~2, ... to a basis.
func (f *names) number(basis [11]byte) ([11]byte, error) {
	for n := max(1, f.next[basis]); n < 1_000_000; n++ {
		tail := "~" + strconv.FormatUint(uint64(n), 10)
		stem := len(strings.TrimRight(string(basis[:8]), " "))
		short := basis
		copy(short[min(stem, 8-len(tail)):8], tail+"        ")
		if !f.short[short] {
			f.short[short] = true
			f.next[basis] = n + 1
			return short, nil
		}
	}
	return basis, errors.New("too many names that begin alike")
}

// dirBytes is the content of a directory.
func (w *writer) dirBytes(d *dir) []byte {
	out := make([]byte, 0, d.slots*32)
	if d.parent == nil && w.o.Label != "" {
		out = append(out, record([11]byte(w.label11()), attrLabel, 0, 0, tree.FixedTime(w.o.Time))...)
	}
	if d.parent != nil {
		up := w.first[d.parent.inode]
		if d.parent.parent == nil {
			up = 0 // the root is cluster 0 here, even where it has one
		}
		out = append(out, record([11]byte([]byte(".          ")), attrDir, w.first[d.inode], 0, d.inode.Sec)...)
		out = append(out, record([11]byte([]byte("..         ")), attrDir, up, 0, d.inode.Sec)...)
	}
	for _, e := range d.entries {
		out = append(out, longRecords(e)...)
		attr, size := byte(attrArchive), uint32(e.inode.Size)
		if e.inode.IsDir() {
			attr, size = attrDir, 0
		} else if e.inode.Mode&0o222 == 0 {
			attr |= attrReadOnly
		}
		out = append(out, record(e.short, attr, w.first[e.inode], size, e.inode.Sec)...)
	}
	return out
}

func record(name [11]byte, attr byte, cluster, size uint32, sec int64) []byte {
	date, clock := dosTime(sec)
	r := dirRecord{Name: name, Attr: attr, Created: clock, CreatedDate: date, Accessed: date,
		High: uint16(cluster >> 16), Clock: clock, Date: date, Low: uint16(cluster), Size: size}
	b, err := binary.Append(nil, binary.LittleEndian, r)
	if err != nil {
		panic(err) // it is of fixed size
	}
	return b
}

// dosTime is date and time of day in UTC, in steps of two seconds.
func dosTime(sec int64) (date, clock uint16) {
	low := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	high := time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC).Unix()
	t := time.Unix(min(max(sec, low), high), 0).UTC()
	date = uint16(t.Year()-1980)<<9 | uint16(t.Month())<<5 | uint16(t.Day())
	return date, uint16(t.Hour())<<11 | uint16(t.Minute())<<5 | uint16(t.Second()/2)
}

// longRecords carry the long name, its end first, 13 characters each.
func longRecords(e entry) []byte {
	n := (len(e.long) + 12) / 13
	out := make([]byte, 32*n)
	sum := shortSum(e.short[:])
	for i := range n {
		b := out[32*(n-1-i):]
		b[0], b[11], b[13] = byte(i+1), 0x0f, sum
		if i == n-1 {
			b[0] |= 0x40
		}
		for k := range 13 {
			c := uint16(0xffff)
			switch at := 13*i + k; {
			case at < len(e.long):
				c = e.long[at]
			case at == len(e.long):
				c = 0
			}
			binary.LittleEndian.PutUint16(b[longSlot(k):], c)
		}
	}
	return out
}

// longSlot is where the k-th character of a long record stands.
func longSlot(k int) int {
	switch {
	case k < 5:
		return 1 + 2*k
	case k < 11:
		return 14 + 2*(k-5)
	}
	return 28 + 2*(k-11)
}
