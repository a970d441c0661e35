package store

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"
)

// entryType tells what a tree's entry is.
type entryType byte

// The types of entries. The values are the letters of the encoding.
const (
	typeDir      entryType = 'd'
	typeFile     entryType = 'f'
	typeSymlink  entryType = 'l'
	typeHardLink entryType = 'h' // another name of a file named earlier
	typeChar     entryType = 'c'
	typeBlock    entryType = 'b'
	typeFIFO     entryType = 'p'
	typeSocket   entryType = 's'
)

// entry is one name in a tree. Which fields matter depends on Type; the
// others are zero.
type entry struct {
	Path         string // with slashes, relative; the root is "."
	Type         entryType
	Mode         uint32 // permissions, setuid, setgid, sticky: at most 0o7777
	UID, GID     uint32
	MTime        int64 // Unix time, nanoseconds
	Size         int64 // bytes, of a file
	Digest       Digest
	Target       string // of a symbolic link: its text; of a hard link: a path in the tree
	Major, Minor uint32 // of a device
	Xattrs       []xattr
}

// xattr is an extended attribute.
type xattr struct{ Name, Value string }

// manifest lists a tree's entries: the root first, then by path in the order
// of bytes. A tree's digest is the BLAKE3 hash of its encoding, see
// Encode.
type manifest struct {
	// Full says that owners, times, extended attributes and hard links are
	// recorded, as they are for trees that actions produce. Without it, as
	// for source trees, only type, permissions, content and link texts are.
	Full    bool
	Entries []entry
}

const (
	manifestFull   = "b9 tree 1 full"
	manifestSource = "b9 tree 1 source"
	maxPath        = 4096
)

// Size returns the total size of the tree's files in bytes.
func (m *manifest) Size() int64 {
	var n int64
	for i := range m.Entries {
		n += m.Entries[i].Size
	}
	return n
}

// Digest returns the digest of the tree.
func (m *manifest) Digest() Digest { return blake3.Sum256(m.Encode()) }

// Encode returns the canonical encoding: a line "b9 tree 1 full" or "b9 tree
// 1 source", then for each entry its type's letter and, after single spaces,
//
//	d, p, s: mode uid gid mtime path
//	f:       mode uid gid mtime size digest path
//	l:       mode uid gid mtime text path
//	c, b:    mode uid gid mtime major minor path
//	h:       target path
//
// followed by a line "x name value" for each extended attribute. The mode is
// octal, other numbers are decimal. In texts the bytes up to the space, the
// backslash and DEL are written \xHH.
func (m *manifest) Encode() []byte {
	b := make([]byte, 0, 64+160*len(m.Entries))
	if m.Full {
		b = append(b, manifestFull...)
	} else {
		b = append(b, manifestSource...)
	}
	b = append(b, '\n')
	for i := range m.Entries {
		b = appendEntry(b, &m.Entries[i])
	}
	return b
}

func appendEntry(b []byte, e *entry) []byte {
	b = append(b, byte(e.Type), ' ')
	if e.Type != typeHardLink {
		b = append(strconv.AppendUint(b, uint64(e.Mode), 8), ' ')
		b = append(strconv.AppendUint(b, uint64(e.UID), 10), ' ')
		b = append(strconv.AppendUint(b, uint64(e.GID), 10), ' ')
		b = append(strconv.AppendInt(b, e.MTime, 10), ' ')
	}
	switch e.Type {
	case typeFile:
		b = append(strconv.AppendInt(b, e.Size, 10), ' ')
		b = append(append(b, e.Digest.String()...), ' ')
	case typeSymlink, typeHardLink:
		b = append(appendText(b, e.Target), ' ')
	case typeChar, typeBlock:
		b = append(strconv.AppendUint(b, uint64(e.Major), 10), ' ')
		b = append(strconv.AppendUint(b, uint64(e.Minor), 10), ' ')
	}
	b = append(appendText(b, e.Path), '\n')
	for _, x := range e.Xattrs {
		b = append(appendText(append(b, "x "...), x.Name), ' ')
		b = append(appendText(b, x.Value), '\n')
	}
	return b
}

func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	for i := range len(s) {
		if c := s[i]; c > ' ' && c != '\\' && c != 0x7f {
			b = append(b, c)
		} else {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		}
	}
	return b
}

// decodeManifest reads what Encode wrote and nothing else. Of what it accepts
// every path lies below the root, in a directory that has an entry of its
// own, so that no symbolic link is ever passed on the way to it.
func decodeManifest(data []byte) (*manifest, error) {
	m, err := parseManifest(string(data))
	if err != nil {
		return nil, fmt.Errorf("tree manifest: %w", err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("tree manifest: %w", err)
	}
	if !bytes.Equal(m.Encode(), data) {
		return nil, fmt.Errorf("tree manifest: not in canonical form")
	}
	return m, nil
}

func parseManifest(text string) (*manifest, error) {
	header, rest, _ := strings.Cut(text, "\n")
	if header != manifestFull && header != manifestSource {
		return nil, fmt.Errorf("begins with %.40q", header)
	}
	m := &manifest{Full: header == manifestFull, Entries: make([]entry, 0, strings.Count(rest, "\n"))}
	for n := 2; rest != ""; n++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		if err := m.parseLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	return m, nil
}

func (m *manifest) parseLine(line string) error {
	var array [9]string
	fields := array[:0]
	for field := range strings.SplitSeq(line, " ") {
		if len(fields) == cap(fields) {
			return fmt.Errorf("too many fields")
		}
		fields = append(fields, field)
	}
	r := &fieldReader{fields: fields[1:]}
	if fields[0] == "x" {
		return m.parseXattr(r)
	}
	if len(fields[0]) != 1 {
		return fmt.Errorf("unknown entry type %.20q", fields[0])
	}
	e, err := parseEntry(entryType(fields[0][0]), r)
	if err != nil {
		return err
	}
	m.Entries = append(m.Entries, e)
	return nil
}

func (m *manifest) parseXattr(r *fieldReader) error {
	x := xattr{Name: r.text(), Value: r.text()}
	if err := r.done(); err != nil {
		return err
	}
	if len(m.Entries) == 0 {
		return fmt.Errorf("an attribute without an entry")
	}
	e := &m.Entries[len(m.Entries)-1]
	e.Xattrs = append(e.Xattrs, x)
	return nil
}

func parseEntry(t entryType, r *fieldReader) (entry, error) {
	e := entry{Type: t}
	if t != typeHardLink {
		e.Mode = uint32(r.number(8, 0o7777))
		e.UID = uint32(r.number(10, math.MaxUint32))
		e.GID = uint32(r.number(10, math.MaxUint32))
		e.MTime = r.signed()
	}
	switch t {
	case typeDir, typeFIFO, typeSocket:
	case typeFile:
		e.Size = int64(r.number(10, math.MaxInt64))
		e.Digest = r.digest()
	case typeSymlink, typeHardLink:
		e.Target = r.text()
	case typeChar, typeBlock:
		e.Major = uint32(r.number(10, math.MaxUint32))
		e.Minor = uint32(r.number(10, math.MaxUint32))
	default:
		return e, fmt.Errorf("unknown entry type %q", byte(t))
	}
	e.Path = r.text()
	return e, r.done()
}

// fieldReader reads the fields of a line one by one and keeps the first error.
type fieldReader struct {
	fields []string
	err    error
}

func (r *fieldReader) next() string {
	if len(r.fields) == 0 {
		r.fail(fmt.Errorf("too few fields"))
		return ""
	}
	s := r.fields[0]
	r.fields = r.fields[1:]
	return s
}

// fail keeps err, if there is one, unless an earlier one is kept.
func (r *fieldReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *fieldReader) done() error {
	if r.err == nil && len(r.fields) > 0 {
		return fmt.Errorf("too many fields")
	}
	return r.err
}

func (r *fieldReader) number(base int, limit uint64) uint64 {
	v, err := strconv.ParseUint(r.next(), base, 64)
	if err == nil && v > limit {
		err = fmt.Errorf("number %d is out of range", v)
	}
	r.fail(err)
	return v
}

func (r *fieldReader) signed() int64 {
	v, err := strconv.ParseInt(r.next(), 10, 64)
	r.fail(err)
	return v
}

func (r *fieldReader) digest() Digest {
	d, err := ParseDigest(r.next())
	r.fail(err)
	return d
}

func (r *fieldReader) text() string {
	s := r.next()
	plain, rest, escaped := strings.Cut(s, `\`)
	if !escaped {
		return s
	}
	b := []byte(plain)
	for escaped {
		if len(rest) < 3 || rest[0] != 'x' {
			r.fail(fmt.Errorf("bad escape in %.40q", s))
			return ""
		}
		v, err := strconv.ParseUint(rest[1:3], 16, 8)
		r.fail(err)
		plain, rest, escaped = strings.Cut(rest[3:], `\`)
		b = append(append(b, byte(v)), plain...)
	}
	return string(b)
}

// comparePaths orders entries: the root first, then by bytes, which puts
// every directory before what is in it.
func comparePaths(a, b string) int {
	if (a == ".") != (b == ".") {
		if a == "." {
			return -1
		}
		return 1
	}
	return cmp.Compare(a, b)
}

// check holds the manifest to what decodeManifest promises.
func (m *manifest) check() error {
	if len(m.Entries) == 0 || m.Entries[0].Path != "." || m.Entries[0].Type != typeDir {
		return fmt.Errorf("no root directory")
	}
	c := manifestCheck{m: m, types: make(map[string]entryType, len(m.Entries))}
	for i := range m.Entries {
		if err := c.entry(i); err != nil {
			return fmt.Errorf("entry %.100q: %w", m.Entries[i].Path, err)
		}
	}
	return nil
}

type manifestCheck struct {
	m     *manifest
	types map[string]entryType
	total int64
}

func (c *manifestCheck) entry(i int) error {
	e := &c.m.Entries[i]
	if i > 0 {
		if comparePaths(c.m.Entries[i-1].Path, e.Path) >= 0 {
			return fmt.Errorf("out of order")
		}
		if err := c.place(e.Path); err != nil {
			return err
		}
	}
	c.types[e.Path] = e.Type
	if e.Size > math.MaxInt64-c.total {
		return fmt.Errorf("sizes add up to too much")
	}
	c.total += e.Size
	if !c.m.Full && (e.UID != 0 || e.GID != 0 || e.MTime != 0 || len(e.Xattrs) > 0 || e.Type == typeHardLink) {
		return fmt.Errorf("more than a source tree records")
	}
	if err := c.target(e); err != nil {
		return err
	}
	return checkXattrs(e)
}

// place checks that the path is below the root, in a directory.
func (c *manifestCheck) place(path string) error {
	if len(path) > maxPath || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("not a path")
	}
	dir, name := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = path[:i], path[i+1:]
	}
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("not a path below the root")
	}
	if c.types[dir] != typeDir {
		return fmt.Errorf("not in a directory of the tree")
	}
	return nil
}

func (c *manifestCheck) target(e *entry) error {
	switch e.Type {
	case typeSymlink:
		if e.Target == "" || len(e.Target) > maxPath || strings.IndexByte(e.Target, 0) >= 0 {
			return fmt.Errorf("a link needs a text of 1 to %d bytes", maxPath)
		}
	case typeHardLink:
		if c.types[e.Target] != typeFile {
			return fmt.Errorf("hard link to %.100q, which is no file named before", e.Target)
		}
	}
	return nil
}

func checkXattrs(e *entry) error {
	if e.Type == typeHardLink && len(e.Xattrs) > 0 {
		return fmt.Errorf("a hard link has no attributes of its own")
	}
	for i, x := range e.Xattrs {
		if x.Name == "" || strings.IndexByte(x.Name, 0) >= 0 {
			return fmt.Errorf("attribute name %.40q", x.Name)
		}
		if i > 0 && e.Xattrs[i-1].Name >= x.Name {
			return fmt.Errorf("attributes out of order")
		}
	}
	return nil
}
