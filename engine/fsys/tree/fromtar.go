package tree

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/unpack"
	"b9.build/b9/engine/internal/sparse"
)

// maxTarFile bounds one file in an archive, in bytes: ext4 holds no larger one.
const maxTarFile = 16 << 40

// FromTarFile is the entries of a tar archive (ustar, PAX, GNU, sparse files
// included) in the file at path, plain or compressed with gzip, zstd, xz or
// bzip2. A plain
// archive in a regular file is read in place; anything else is first copied to an
// unnamed temporary file beside the image, so that the order of the archive has
// no influence on the result. Later entries replace earlier ones of the same
// name. Directories that are not listed belong to root with mode 0755. Extended
// attributes are those recorded as SCHILY.xattr or LIBARCHIVE.xattr. A name
// with "..", a hard link to something absent, or an entry below a file is an
// error.
func FromTarFile(path string) Content { return FromTarFileStripped(path, 0) }

// FromTarFileStripped is FromTarFile without the first so many parts of every name, also
// of those that hard links refer to; what has no more parts is left out, as with tar's
// --strip-components.
func FromTarFileStripped(path string, parts int) Content {
	return &tarContent{path: path, strip: parts}
}

type tarContent struct {
	path  string
	strip int        // parts of names
	owned []*os.File // open until Close
}

func (c *tarContent) Close() error {
	var err error
	for _, f := range c.owned {
		err = errors.Join(err, f.Close())
	}
	c.owned = nil
	return err
}

// Load reads all headers. Data stays where it is: in the archive when that is a
// plain file, else in a spool that the reading fills.
func (c *tarContent) Load(ctx context.Context, scratch string) (*Tree, error) {
	f, err := os.Open(c.path)
	if err != nil {
		return nil, err
	}
	c.owned = append(c.owned, f)
	x := c.newIndex(ctx, scratch)
	plain, err := isPlain(f)
	if err == nil && plain {
		x.data = f
		err = x.run(newTarFile(f))
	} else if err == nil {
		err = x.spool(f)
	}
	if err != nil {
		return nil, fmt.Errorf("tar archive %s: %w", c.path, err)
	}
	return x.tree, nil
}

func (c *tarContent) newIndex(ctx context.Context, scratch string) *tarIndex {
	return &tarIndex{tree: newTree(time.Time{}), ctx: ctx, scratch: scratch, content: c}
}

// isPlain reports whether f is a regular file and not compressed.
func isPlain(f *os.File) (bool, error) {
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return false, err
	}
	var head [6]byte
	n, err := f.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	return unpack.Kind(head[:n]) == "", nil
}

// tarFile reads an archive in place through a small buffer, so that a header
// costs one system call and skipping data none.
type tarFile struct {
	buf  *bufio.Reader // of file
	file *io.SectionReader
	pos  int64 // of the next byte
}

func newTarFile(f *os.File) *tarFile {
	file := io.NewSectionReader(f, 0, 1<<63-1)
	return &tarFile{buf: bufio.NewReaderSize(file, 4096), file: file}
}

func (t *tarFile) Read(b []byte) (int, error) {
	n, err := t.buf.Read(b)
	t.pos += int64(n)
	return n, err
}

func (t *tarFile) Seek(off int64, whence int) (int64, error) {
	if whence != io.SeekCurrent || off < 0 || t.pos+off < 0 {
		return 0, errors.New("seek backwards in an archive")
	}
	t.pos += off
	if off <= int64(t.buf.Buffered()) {
		_, err := t.buf.Discard(int(off))
		return t.pos, err
	}
	_, err := t.file.Seek(t.pos, io.SeekStart)
	t.buf.Reset(t.file)
	return t.pos, err
}

func (t *tarFile) position() int64 { return t.pos }

// spoolReader copies what the archive's reader consumes to the spool.
type spoolReader struct {
	r   io.Reader
	w   *bufio.Writer
	pos int64
}

func (s *spoolReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.pos += int64(n)
	if _, werr := s.w.Write(b[:n]); werr != nil {
		return n, werr
	}
	return n, err
}

func (s *spoolReader) position() int64 { return s.pos }

// positioned is a stream that knows how many bytes were read from it.
type positioned interface {
	io.Reader
	position() int64
}

type tarIndex struct {
	ctx     context.Context
	tree    *Tree
	content *tarContent
	scratch string
	data    *os.File // where the data of entries lies
	holes   *os.File // expanded sparse files
	holesAt int64
}

// spool indexes a stream while it is copied to a temporary file.
func (x *tarIndex) spool(r io.Reader) error {
	plain, err := unpack.Reader(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	if x.data, err = x.temp(); err != nil {
		return err
	}
	s := &spoolReader{r: plain, w: bufio.NewWriterSize(x.data, 1<<20)}
	if err := x.run(s); err != nil {
		return err
	}
	if err := unpack.Finish(x.ctx, plain); err != nil {
		return err
	}
	return s.w.Flush()
}

// temp makes an unnamed file that lives as long as the content.
func (x *tarIndex) temp() (*os.File, error) {
	f, err := os.CreateTemp(x.scratch, ".b9-tar-*")
	if err != nil {
		return nil, err
	}
	x.content.owned = append(x.content.owned, f)
	return f, os.Remove(f.Name())
}

func (x *tarIndex) run(in positioned) error {
	tr := tar.NewReader(in)
	for {
		if err := context.Cause(x.ctx); err != nil {
			return err
		}
		h, err := tr.Next()
		if err == io.EOF {
			x.tree.seal()
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, tr, in); err != nil {
			return err
		}
	}
}

// path is a name of the archive without the parts that are stripped; "" is the root, or
// what had no more parts.
func (x *tarIndex) path(name string) (string, error) {
	p, err := cleanPath(name)
	for range x.content.strip {
		_, p, _ = strings.Cut(p, "/")
	}
	return p, err
}

func (x *tarIndex) entry(h *tar.Header, tr *tar.Reader, in positioned) error {
	p, err := x.path(h.Name)
	if err != nil || p == "" && x.content.strip > 0 {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		target, err := x.path(h.Linkname)
		if err != nil {
			return err
		}
		return x.tree.link(p, target)
	}
	n, err := tarInode(h)
	if err != nil || n == nil {
		return err
	}
	n.Origin = h.Name
	if n.IsRegular() && n.Size > 0 {
		if n.Open, err = x.source(h, tr, in); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	return x.tree.add(p, n)
}

func (x *tarIndex) source(h *tar.Header, tr *tar.Reader, in positioned) (func() (io.ReadCloser, error), error) {
	if h.Size > maxTarFile {
		return nil, fmt.Errorf("is %d bytes long, a file system holds %d", h.Size, int64(maxTarFile))
	}
	if !isSparse(h) {
		return section{f: x.data, off: in.position(), size: h.Size}.Open, nil
	}
	if x.holes == nil {
		f, err := x.temp()
		if err != nil {
			return nil, err
		}
		x.holes = f
	}
	at := x.holesAt
	x.holesAt += (h.Size + 4095) &^ 4095
	if err := copyData(x.ctx, tr, x.holes, at, h.Size); err != nil {
		return nil, err
	}
	return section{f: x.holes, off: at, size: h.Size, sparse: true}.Open, x.holes.Truncate(x.holesAt)
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// tarInode is an inode with a header's attributes; nil for entries that are no object.
func tarInode(h *tar.Header) (*Inode, error) {
	if err := checkOwner(h.Uid, h.Gid); err != nil {
		return nil, fmt.Errorf("%q: %w", h.Name, err)
	}
	n := &Inode{Mode: uint32(h.Mode) & 0o7777, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont, '\x00':
		n.Mode |= unix.S_IFREG
		n.Size = h.Size
	case tar.TypeDir:
		n.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		n.Mode |= unix.S_IFLNK
		n.Target, n.Size = h.Linkname, int64(len(h.Linkname))
	case tar.TypeChar, tar.TypeBlock:
		n.Mode |= map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
		if h.Devmajor < 0 || h.Devminor < 0 || h.Devmajor > 0xfff || h.Devminor > 0xfffff {
			return nil, fmt.Errorf("%q: device %d:%d is out of range", h.Name, h.Devmajor, h.Devminor)
		}
		n.Major, n.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	case tar.TypeFifo:
		n.Mode |= unix.S_IFIFO
	case tar.TypeXGlobalHeader:
		return nil, nil
	default:
		return nil, fmt.Errorf("%q: unknown entry type %q", h.Name, h.Typeflag)
	}
	var err error
	n.Xattrs, err = tarXattrs(h)
	return n, err
}

func tarXattrs(h *tar.Header) ([]Xattr, error) {
	var out []Xattr
	for k, v := range h.PAXRecords {
		if name, ok := strings.CutPrefix(k, "SCHILY.xattr."); ok && portableXattr(name) {
			out = append(out, Xattr{name, []byte(v)})
		}
		name, ok := strings.CutPrefix(k, "LIBARCHIVE.xattr.")
		if _, both := h.PAXRecords["SCHILY.xattr."+name]; !ok || both || !portableXattr(name) {
			continue
		}
		value, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "="))
		if err != nil {
			return nil, fmt.Errorf("%q: extended attribute %s: %w", h.Name, name, err)
		}
		out = append(out, Xattr{name, value})
	}
	sortXattrs(out)
	return out, nil
}

// section is a stretch of an open file.
type section struct {
	f      *os.File
	off    int64
	size   int64
	sparse bool
}

func (s section) Open() (io.ReadCloser, error) {
	return &sectionReader{io.NewSectionReader(s.f, s.off, s.size), s}, nil
}

type sectionReader struct {
	*io.SectionReader
	s section
}

func (r *sectionReader) Close() error { return nil }

func (r *sectionReader) NextData(off int64) (int64, error) {
	if !r.s.sparse {
		return off, nil
	}
	pos, err := sparse.Data(r.s.f, r.s.off+off, r.s.off+r.s.size)
	if err != nil {
		pos = r.s.off + off // read on
	}
	return r.Seek(pos-r.s.off, io.SeekStart)
}
