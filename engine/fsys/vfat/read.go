package vfat

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// volume reads FAT12, FAT16 and FAT32 with long names. Owners are 0, modes
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
	b, err := r.Bytes(0, sector)
	if err != nil {
		return nil, err
	}
	g, ok := parseBPB(b)
	if !ok {
		return nil, volume.Damaged("the boot sector")
	}
	return &reader{r: r, g: g}, nil
}

func (v *reader) Type() string { return "vfat" }

func (v *reader) Fold(name string) string { return strings.ToUpper(name) }

func (v *reader) Load(e *volume.Entry) (*volume.Node, error) { return e.Node, nil }

func (v *reader) Xattrs(*volume.Node) ([]tree.Xattr, error) { return nil, nil }

func (v *reader) ReadLink(*volume.Node) (string, error) { return "", errors.New("is no link") }

func (v *reader) clusterSize() int64 { return int64(v.g.perCluster * v.g.sectorSize) }

func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	return v.open(n.Private.(node).first, n.Size)
}

func (v *reader) Root() (*volume.Node, error) {
	n := &volume.Node{Mode: unix.S_IFDIR | 0o755, Private: node{first: uint32(v.g.rootCluster), fixed: v.g.bits != 32}}
	n.Inode, n.Links = v.g.rootCluster, 1
	return n, nil
}

func (v *reader) open(first uint32, size int64) (*file, error) {
	if size > int64(v.g.clusters)*v.clusterSize() {
		return nil, volume.Damaged("a file of %d bytes, %d clusters hold less", size, v.g.clusters)
	}
	return &file{v: v, first: first, size: size, cluster: first}, nil
}

// next is the cluster that follows one in its chain; 0 is the end.
func (v *reader) next(cluster uint32) (uint32, error) {
	at, n := int64(cluster)*int64(v.g.bits)/8, 2
	if v.g.bits == 32 {
		n = 4
	}
	b, err := v.r.Bytes(int64(v.g.reserved*v.g.sectorSize)+at, n)
	if err != nil {
		return 0, err
	}
	var value, end uint32
	switch v.g.bits {
	case 12:
		value, end = uint32(binary.LittleEndian.Uint16(b)), 0xff8
		if cluster%2 == 1 {
			value >>= 4
		}
		value &= 0xfff
	case 16:
		value, end = uint32(binary.LittleEndian.Uint16(b)), 0xfff8
	default:
		value, end = binary.LittleEndian.Uint32(b)&0x0fffffff, 0x0ffffff8
	}
	if value >= end {
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

// file is the data of a chain of clusters. It remembers where it was, so
// that reading on does not begin the chain anew.
type file struct {
	v       *reader
	first   uint32
	size    int64
	index   int64 // of cluster in the chain
	cluster uint32
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	cs := f.v.clusterSize()
	for done := 0; done < len(b); {
		if err := f.seek((off + int64(done)) / cs); err != nil {
			return done, err
		}
		skip := (off + int64(done)) % cs
		at := f.v.g.clusterAt(f.cluster) + skip
		n, err := f.run(skip + int64(len(b)-done))
		if err != nil {
			return done, err
		}
		part := b[done:min(int64(len(b)), int64(done)+n-skip)]
		if _, err := f.v.r.ReadAt(part, at); err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(b), nil
}

// seek goes to a cluster of the chain.
func (f *file) seek(index int64) error {
	if index < f.index {
		f.index, f.cluster = 0, f.first
	}
	if err := f.v.check(f.cluster); err != nil {
		return err
	}
	for ; f.index < index; f.index++ {
		next, err := f.v.next(f.cluster)
		if err != nil {
			return err
		}
		if next == 0 {
			return volume.Damaged("a file is longer than its chain of clusters")
		}
		f.cluster = next
	}
	return nil
}

// run moves on while clusters lie next to each other, want bytes at most, and
// returns the bytes of that run.
func (f *file) run(want int64) (int64, error) {
	cs := f.v.clusterSize()
	n := cs
	for n < want {
		next, err := f.v.next(f.cluster)
		if err != nil {
			return 0, err
		}
		if next != f.cluster+1 {
			break
		}
		f.cluster, f.index, n = next, f.index+1, n+cs
	}
	return n, nil
}

// List reads a directory's records.
func (v *reader) List(n *volume.Node) ([]volume.Entry, error) {
	p := n.Private.(node)
	var out []volume.Entry
	d := records{v: v}
	if p.fixed {
		at := v.g.rootAt()
		b, err := v.r.Bytes(at, int(v.g.rootEntries*32))
		if err != nil {
			return nil, err
		}
		out, _ = d.read(b, at, out)
		return out, nil
	}
	for cluster, read := p.first, int64(0); cluster != 0; {
		if err := v.check(cluster); err != nil {
			return nil, err
		}
		if read += v.clusterSize(); read > maxDir*32+v.clusterSize() {
			return nil, volume.Damaged("a directory with more than %d records", maxDir)
		}
		at := v.g.clusterAt(cluster)
		b, err := v.r.Bytes(at, int(v.clusterSize()))
		if err != nil {
			return nil, err
		}
		var more bool
		if out, more = d.read(b, at, out); !more {
			break
		}
		if cluster, err = v.next(cluster); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// records puts the parts of long names together.
type records struct {
	v    *reader
	long []uint16
	left byte // parts still to come
	sum  byte
}

// read reads a run of records that lies at a byte offset; false when the
// directory's end was among them.
func (d *records) read(b []byte, at int64, out []volume.Entry) ([]volume.Entry, bool) {
	for ; len(b) >= 32; b, at = b[32:], at+32 {
		switch {
		case b[0] == 0:
			return out, false
		case b[0] == 0xe5:
			d.long = nil
		case b[11]&0x3f == 0x0f:
			d.part(b)
		case b[11]&0x08 != 0: // the volume's label
			d.long = nil
		default:
			if e, ok := d.entry(b, at); ok {
				out = append(out, e)
			}
			d.long = nil
		}
	}
	return out, true
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

func (d *records) entry(b []byte, at int64) (volume.Entry, bool) {
	le := binary.LittleEndian
	name := d.name(b)
	if name == "" || name == "." || name == ".." {
		return volume.Entry{}, false
	}
	first := uint32(le.Uint16(b[26:]))
	if d.v.g.bits == 32 {
		first |= uint32(le.Uint16(b[20:])) << 16
	}
	n := &volume.Node{Mode: unix.S_IFREG | 0o644, Size: int64(le.Uint32(b[28:])), Private: node{first: first}}
	n.Inode, n.Links = 1<<32|uint64(at/32), 1
	n.Sec = dosSeconds(le.Uint16(b[24:]), le.Uint16(b[22:]))
	if b[11]&0x10 != 0 {
		n.Mode, n.Size, n.Inode = unix.S_IFDIR|0o755, 0, uint64(first)
	} else if b[11]&0x01 != 0 {
		n.Mode = unix.S_IFREG | 0o444
	}
	return volume.Entry{Name: name, Kind: n.Kind(), Node: n}, true
}

// name is the long one where it belongs to this record, else the short one.
func (d *records) name(b []byte) string {
	if d.long != nil && d.left == 0 && d.sum == shortSum(b) {
		long := d.long
		for i, c := range long {
			if c == 0 {
				long = long[:i]
				break
			}
		}
		if name := string(utf16.Decode(long)); name != "" && !strings.ContainsAny(name, "/\x00") {
			return name
		}
	}
	stem, ext := dosText(b[:8], b[12]&0x08 != 0), dosText(b[8:11], b[12]&0x10 != 0)
	if b[0] == 0x05 { // stands for 0xe5, which would mean deleted
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
