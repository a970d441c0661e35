package vfat

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// volume reads FAT12, FAT16 and FAT32 with long names. Owners are 0, modes
// 0755 and 0644, or 0444 for what is write-protected; times are taken for UTC.
type volume struct {
	r *tree.Pages
	g geometry
}

// node is where an object's data begins; cluster 0 is none, and for the root
// of FAT12 and FAT16 its fixed place.
type node struct {
	first uint32
	fixed bool
}

func Open(r *tree.Pages) (*volume, error) {
	b, err := r.Bytes(0, Sector)
	if err != nil {
		return nil, err
	}
	g, ok := parseBPB(b)
	if !ok {
		return nil, tree.Damaged("the boot sector")
	}
	return &volume{r: r, g: g}, nil
}

func (v *volume) Kind() string { return "vfat" }

func (v *volume) Fold(name string) string { return strings.ToUpper(name) }

func (v *volume) Load(d *tree.Dirent) (*tree.Node, error) { return d.Node, nil }

func (v *volume) Xattrs(*tree.Node) ([]tree.Xattr, error) { return nil, nil }

func (v *volume) ReadLink(*tree.Node) (string, error) { return "", errors.New("is no link") }

func (v *volume) clusterSize() int64 { return int64(v.g.perCluster * v.g.sectorSize) }

func (v *volume) Data(n *tree.Node) (io.ReaderAt, error) { return v.open(n.Priv.(node).first, n.Size) }

func (v *volume) Root() (*tree.Node, error) {
	n := &tree.Node{Mode: unix.S_IFDIR | 0o755, Priv: node{first: uint32(v.g.rootCluster), fixed: v.g.bits != 32}}
	n.Inode, n.Links = v.g.rootCluster, 1
	return n, nil
}

func (v *volume) open(first uint32, size int64) (*file, error) {
	if size > int64(v.g.clusters)*v.clusterSize() {
		return nil, tree.Damaged("a file of %d bytes, %d clusters hold less", size, v.g.clusters)
	}
	return &file{v: v, first: first, size: size, cluster: first}, nil
}

// next is the cluster that follows one in its chain; 0 is the end.
func (v *volume) next(cluster uint32) (uint32, error) {
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

func (v *volume) check(cluster uint32) error {
	if cluster < 2 || uint64(cluster)-2 >= v.g.clusters {
		return tree.Damaged("cluster %d is none of the %d", cluster, v.g.clusters)
	}
	return nil
}

// clusterAt is the byte offset of a cluster.
func (v *volume) clusterAt(cluster uint32) int64 {
	sector := v.g.reserved + v.g.fats*v.g.fatSectors + v.g.rootSectors() + uint64(cluster-2)*v.g.perCluster
	return int64(sector * v.g.sectorSize)
}

// file is the data of a chain of clusters. It remembers where it was, so
// that reading on does not begin the chain anew.
type file struct {
	v       *volume
	first   uint32
	size    int64
	index   int64 // of cluster in the chain
	cluster uint32
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.size {
		return 0, io.EOF
	}
	var end error
	if left := f.size - off; int64(len(b)) > left {
		b, end = b[:left], io.EOF
	}
	cs := f.v.clusterSize()
	for done := 0; done < len(b); {
		if err := f.seek((off + int64(done)) / cs); err != nil {
			return done, err
		}
		skip := (off + int64(done)) % cs
		at := f.v.clusterAt(f.cluster) + skip
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
	return len(b), end
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
			return tree.Damaged("a file is longer than its chain of clusters")
		}
		f.cluster = next
	}
	return nil
}

// fsystest.Run moves on while clusters lie next to each other, want bytes at most, and
// returns the bytes of that fsystest.Run.
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
func (v *volume) List(n *tree.Node) ([]tree.Dirent, error) {
	p := n.Priv.(node)
	var out []tree.Dirent
	d := reader{v: v}
	if p.fixed {
		at := int64((v.g.reserved + v.g.fats*v.g.fatSectors) * v.g.sectorSize)
		b, err := v.r.Bytes(at, int(v.g.rootEntries*32))
		if err != nil {
			return nil, err
		}
		out, _ = d.records(b, at, out)
		return out, nil
	}
	for cluster, read := p.first, int64(0); cluster != 0; {
		if err := v.check(cluster); err != nil {
			return nil, err
		}
		if read += v.clusterSize(); read > maxDir*32+v.clusterSize() {
			return nil, tree.Damaged("a directory with more than %d records", maxDir)
		}
		at := v.clusterAt(cluster)
		b, err := v.r.Bytes(at, int(v.clusterSize()))
		if err != nil {
			return nil, err
		}
		var more bool
		if out, more = d.records(b, at, out); !more {
			break
		}
		if cluster, err = v.next(cluster); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// reader puts the parts of long names together.
type reader struct {
	v    *volume
	long []uint16
	left byte // parts still to come
	sum  byte
}

// records reads a run of records that lies at a byte offset; false when the
// directory's end was among them.
func (d *reader) records(b []byte, at int64, out []tree.Dirent) ([]tree.Dirent, bool) {
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

// part takes one record of a long name; the last part comes first.
func (d *reader) part(b []byte) {
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

func (d *reader) entry(b []byte, at int64) (tree.Dirent, bool) {
	le := binary.LittleEndian
	name := d.name(b)
	if name == "" || name == "." || name == ".." {
		return tree.Dirent{}, false
	}
	first := uint32(le.Uint16(b[26:]))
	if d.v.g.bits == 32 {
		first |= uint32(le.Uint16(b[20:])) << 16
	}
	n := &tree.Node{Mode: unix.S_IFREG | 0o644, Size: int64(le.Uint32(b[28:])), Priv: node{first: first}}
	n.Inode, n.Links = 1<<32|uint64(at/32), 1
	n.Sec = dosSeconds(le.Uint16(b[24:]), le.Uint16(b[22:]))
	if b[11]&0x10 != 0 {
		n.Mode, n.Size, n.Inode = unix.S_IFDIR|0o755, 0, uint64(first)
	} else if b[11]&0x01 != 0 {
		n.Mode = unix.S_IFREG | 0o444
	}
	return tree.Dirent{Name: name, Kind: n.Mode & unix.S_IFMT, Node: n}, true
}

// name is the long one where it belongs to this record, else the short one.
func (d *reader) name(b []byte) string {
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
