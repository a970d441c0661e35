package vfat

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// reader reads FAT12, FAT16 and FAT32 with long names. Owners are 0, modes
// 0755 and 0644, or 0444 for what is write-protected; times are read as UTC.
type reader struct {
	r *volume.Pages
	g geometry
}

// node is where an object's data begins; cluster 0 is none, and for the root
// of FAT12 and FAT16 its fixed place.
type node struct {
	first uint32
	fixed bool
}

// Open reads the boot sector of a FAT image.
func Open(r *volume.Pages) (volume.Volume, error) {
	b, err := r.Bytes(0, bootSize)
	if err != nil {
		return nil, err
	}
	g, ok := parseBPB(b)
	if !ok {
		return nil, volume.Damaged("the boot sector")
	}
	return &reader{r: r, g: g}, nil
}

func (v *reader) Fold(name string) string { return strings.ToUpper(name) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return e.Node, nil }

func (v *reader) Xattrs(*volume.Node) ([]tree.Xattr, error) { return nil, nil }

func (v *reader) ReadLink(*volume.Node) (string, error) { return "", errors.New("is no link") }

func (v *reader) clusterSize() int64 { return int64(v.g.perCluster * v.g.sectorSize) }

func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	if n.Size > int64(v.g.clusters)*v.clusterSize() {
		return nil, volume.Damaged("a file of %d bytes, %d clusters hold less", n.Size, v.g.clusters)
	}
	first := n.Private.(node).first
	c := &chain{v: v, first: first, cluster: first}
	return &volume.Extents{Pages: v.r, Size: n.Size, Run: c.run}, nil
}

func (v *reader) Root() (*volume.Node, error) {
	n := &volume.Node{Mode: unix.S_IFDIR | 0o755, Private: node{first: uint32(v.g.rootCluster), fixed: v.g.bits != 32}}
	n.Inode, n.Links = v.g.rootCluster, 1
	return n, nil
}

// next is the cluster that follows one in its chain; 0 is the end.
func (v *reader) next(cluster uint32) (uint32, error) {
	at := int64(v.g.reserved*v.g.sectorSize) + int64(cluster)*int64(v.g.bits)/8
	var word [4]byte
	if _, err := v.r.ReadAt(word[:max(2, v.g.bits/8)], at); err != nil {
		return 0, err
	}
	value, last := binary.LittleEndian.Uint32(word[:]), v.g.last()
	if v.g.bits == 12 && cluster%2 == 1 {
		value >>= 4
	}
	if value &= last; value >= last&^7 {
		return 0, nil
	}
	return value, v.check(value)
}

func (v *reader) check(cluster uint32) error {
	if cluster < 2 || uint64(cluster)-2 >= v.g.clusters {
		return volume.Damaged("cluster %d is none of the %d", cluster, v.g.clusters)
	}
	return nil
}

// chain is where a file's data lies. It remembers where it was, so that reading
// on does not begin anew.
type chain struct {
	v       *reader
	first   uint32
	index   int64 // of cluster in the chain
	cluster uint32
}

// seek goes to a cluster of the chain.
func (c *chain) seek(index int64) error {
	if index < c.index {
		c.index, c.cluster = 0, c.first
	}
	if err := c.v.check(c.cluster); err != nil {
		return err
	}
	for ; c.index < index; c.index++ {
		next, err := c.v.next(c.cluster)
		if err != nil {
			return err
		}
		if next == 0 {
			return volume.Damaged("a file is longer than its chain of clusters")
		}
		c.cluster = next
	}
	return nil
}

// run goes to a byte of the file, and on while clusters lie next to each other.
func (c *chain) run(off, want int64) (at, n int64, err error) {
	cs := c.v.clusterSize()
	if err := c.seek(off / cs); err != nil {
		return 0, 0, err
	}
	at, n = c.v.g.clusterAt(c.cluster)+off%cs, cs-off%cs
	for n < want {
		next, err := c.v.next(c.cluster)
		if err != nil {
			return 0, 0, err
		}
		if next != c.cluster+1 {
			break
		}
		c.cluster, c.index, n = next, c.index+1, n+cs
	}
	return at, n, nil
}

// List reads a directory's records.
func (v *reader) List(n *volume.Node) ([]volume.Entry, error) {
	p, d := n.Private.(node), records{v: v}
	if p.fixed {
		_, err := d.read(v.g.rootAt(), int(v.g.rootEntries*32))
		return d.out, err
	}
	for cluster, read := p.first, int64(0); cluster != 0; {
		if err := v.check(cluster); err != nil {
			return nil, err
		}
		if read += v.clusterSize(); read > maxDir*32+v.clusterSize() {
			return nil, volume.Damaged("a directory with more than %d records", maxDir)
		}
		more, err := d.read(v.g.clusterAt(cluster), int(v.clusterSize()))
		if err == nil && more {
			cluster, err = v.next(cluster)
		}
		if err != nil || !more {
			return d.out, err
		}
	}
	return d.out, nil
}

// records collects a directory's entries, and puts the parts of long names together.
type records struct {
	v    *reader
	out  []volume.Entry
	long []uint16
	left byte // parts still to come
	sum  byte
}

// dirRecord is a record of a directory (Microsoft's FAT specification 1.03, section 6).
type dirRecord struct {
	Name                 [11]byte
	Attr, Case, Tenths   byte
	Created, CreatedDate uint16
	Accessed, High       uint16
	Clock, Date, Low     uint16
	Size                 uint32
}

// Attributes of a record.
const (
	attrReadOnly = 0x01
	attrLabel    = 0x08
	attrDir      = 0x10
	attrArchive  = 0x20
	attrLong     = 0x0f // and its whole low half
)

// read reads the records in n bytes of the image; false when the directory's end
// was among them.
func (d *records) read(at int64, n int) (more bool, err error) {
	b, err := d.v.r.Bytes(at, n)
	if err != nil {
		return false, err
	}
	for ; len(b) >= 32; b, at = b[32:], at+32 {
		var r dirRecord
		if _, err := binary.Decode(b, binary.LittleEndian, &r); err != nil {
			return false, err
		}
		switch {
		case b[0] == 0:
			return false, nil
		case b[0] != 0xe5 && r.Attr&0x3f == attrLong:
			d.part(b)
			continue
		case b[0] != 0xe5 && r.Attr&attrLabel == 0:
			d.entry(&r, at)
		}
		d.long = nil
	}
	return true, nil
}

// part adds one record of a long name; the last part comes first.
func (d *records) part(b []byte) {
	num := b[0] & 0x3f
	if b[0]&0x40 != 0 && num >= 1 && num <= 20 {
		d.long, d.left, d.sum = make([]uint16, 13*int(num)), num, b[13]
	} else if d.long == nil || num != d.left || b[13] != d.sum {
		d.long = nil
		return
	}
	d.left--
	for k := range 13 {
		d.long[13*int(d.left)+k] = binary.LittleEndian.Uint16(b[longSlot(k):])
	}
}

// entry adds the object of a record that lies at a byte offset.
func (d *records) entry(r *dirRecord, at int64) {
	name := d.name(r)
	if name == "" || name == "." || name == ".." {
		return
	}
	first := uint32(r.Low)
	if d.v.g.bits == 32 {
		first |= uint32(r.High) << 16
	}
	n := &volume.Node{Mode: unix.S_IFREG | 0o644, Size: int64(r.Size), Sec: dosSeconds(r.Date, r.Clock), Private: node{first: first}}
	n.Inode, n.Links = 1<<32|uint64(at/32), 1
	if r.Attr&attrDir != 0 {
		n.Mode, n.Size, n.Inode = unix.S_IFDIR|0o755, 0, uint64(first)
	} else if r.Attr&attrReadOnly != 0 {
		n.Mode = unix.S_IFREG | 0o444
	}
	d.out = append(d.out, volume.Entry{Name: name, Kind: n.Kind(), Node: n})
}

// name is the long one where it belongs to this record, else the short one.
func (d *records) name(r *dirRecord) string {
	if d.long != nil && d.left == 0 && d.sum == shortSum(r.Name[:]) {
		long := d.long
		if end := slices.Index(long, 0); end >= 0 {
			long = long[:end]
		}
		if name := string(utf16.Decode(long)); name != "" && !strings.ContainsAny(name, "/\x00") {
			return name
		}
	}
	stem, ext := dosText(r.Name[:8], r.Case&0x08 != 0), dosText(r.Name[8:], r.Case&0x10 != 0)
	if r.Name[0] == 0x05 { // stands for 0xe5, which would mean deleted
		stem = "σ" + strings.TrimPrefix(stem, "\x05")
	}
	name := stem
	if ext != "" {
		name += "." + ext
	}
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c == '/' {
			return '_'
		}
		return c
	}, name)
}

// dosText decodes a padded name in code page 437.
func dosText(b []byte, lower bool) string {
	const high = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0"
	var text strings.Builder
	for _, c := range b {
		if c < 0x80 {
			text.WriteByte(c)
			continue
		}
		text.WriteRune([]rune(high)[c-0x80])
	}
	s := strings.TrimRight(text.String(), " ")
	if lower {
		return strings.ToLower(s)
	}
	return s
}

// shortSum is what the parts of a long name record of the short one.
func shortSum(b []byte) byte {
	var sum byte
	for _, c := range b[:11] {
		sum = sum<<7 | sum>>1
		sum += c
	}
	return sum
}

// dosSeconds is the opposite of dosTime; 0 where no date was recorded.
func dosSeconds(date, clock uint16) int64 {
	month, day := int(date>>5&15), int(date&31)
	if month == 0 || day == 0 {
		return 0
	}
	return time.Date(1980+int(date>>9), time.Month(month), day, int(clock>>11), int(clock>>5&63), int(clock&31)*2, 0, time.UTC).Unix()
}
