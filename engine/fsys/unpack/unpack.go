// Package unpack takes files out of what they were packed in: compressed with gzip
// (RFC 1952), zstd (RFC 8878), xz or bzip2, or members of a tar or zip archive.
//
// It goes by the first bytes, never by a name, and writes one file at a time: what is
// read is foreign, and the names in an archive are compared and never opened.
//
//	Kind, Ending   what bytes are packed with; what the ending of a name says
//	Reader         the plain bytes of a stream
//	Finish         the end of one, which has its checksums
//	File           one file, written with holes
package unpack

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"b9.build/b9/engine/internal/sparse"
)

// kinds are the ways to pack, with the bytes that they begin with and the endings of
// names.
var kinds = [...]struct {
	name, magic string
	endings     []string
}{
	{"gzip", "\x1f\x8b", []string{".gz"}},
	{"zstd", "\x28\xb5\x2f\xfd", []string{".zst"}},
	{"xz", "\xfd7zXZ\x00", []string{".xz"}},
	{"bzip2", "BZh", []string{".bz2"}},
	{"zip", "PK\x03\x04", []string{".zip"}},
}

// short are endings that stand for two.
var short = map[string]string{".tgz": ".tar.gz", ".txz": ".tar.xz", ".tbz2": ".tar.bz2", ".tzst": ".tar.zst"}

// headSize is how many bytes Kind looks at.
const headSize = 6

// Kind returns how what begins with head is packed: "gzip", "zstd", "xz", "bzip2" or
// "zip"; "" for anything else.
func Kind(head []byte) string {
	for _, k := range kinds {
		if bytes.HasPrefix(head, []byte(k.magic)) {
			return k.name
		}
	}
	return ""
}

// FileKind is Kind of the file at path.
func FileKind(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = nil
	}
	return Kind(head[:n]), err
}

// Ending returns the name of what is in the file called name, without the ending that
// says how it is packed: "a.img" for "a.img.xz", "b.tar" for "b.tgz".
func Ending(name string) (inner string, packed bool) {
	for from, to := range short {
		if head, ok := strings.CutSuffix(name, from); ok {
			name = head + to
		}
	}
	for _, k := range kinds {
		for _, e := range k.endings {
			if inner, ok := strings.CutSuffix(name, e); ok {
				return inner, true
			}
		}
	}
	return name, false
}

// Reader returns the plain bytes of r, which is compressed or plain. A zip is an error.
func Reader(r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	head, err := br.Peek(headSize)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch kind := Kind(head); kind {
	case "gzip":
		return gzip.NewReader(br)
	case "zstd":
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxMemory(128<<20))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	case "xz":
		x, err := xz.NewReader(br)
		return io.NopCloser(x), err
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(br)), nil
	case "":
		return io.NopCloser(br), nil
	default:
		return nil, fmt.Errorf("it is packed with %s, which is no stream", kind)
	}
}

// Finish reads what is left of a stream from [Reader]. An archive ends before the stream
// that it is in, and the checksums of most compressions stand at the end: without them
// a damaged file would count as whole.
func Finish(ctx context.Context, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		switch _, err := r.Read(buf); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("behind the end of the archive: %w", err)
		}
	}
}

// File writes what is packed in the file at src to the empty file w, zeros as holes.
// member names one file of a tar or zip; without it a zip must have a single one, and
// a tar is what comes out. What is not packed is an error, unless it is a tar of which a
// member is wanted.
func File(ctx context.Context, src string, w *os.File, member string) error {
	in, st, err := sparse.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	head := make([]byte, headSize)
	n, err := in.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return err
	}
	kind := Kind(head[:n])
	switch {
	case kind == "zip":
		return fromZip(ctx, in, st.Size(), w, member)
	case kind == "" && member == "":
		return errors.New("it is neither gzip, zstd, xz, bzip2 nor zip: there is nothing to unpack")
	}
	plain, err := Reader(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	if member != "" {
		return fromTar(ctx, plain, w, member)
	}
	return write(ctx, w, plain)
}

// fromTar writes the regular file called member. Of several the last one counts, as
// tar has it.
func fromTar(ctx context.Context, r io.Reader, w *os.File, member string) error {
	t := tar.NewReader(r)
	found := false
	var seen names
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read it as a tar archive: %w", err)
		}
		if seen.add(h.Name); path.Clean(h.Name) != path.Clean(member) {
			continue
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeGNUSparse {
			return fmt.Errorf("the member %q is no regular file", member)
		}
		found = true
		if err := write(ctx, w, t); err != nil {
			return err
		}
	}
	if !found {
		return seen.missing(member)
	}
	return Finish(ctx, r)
}

// fromZip writes the file called member, or the only one.
func fromZip(ctx context.Context, in *os.File, size int64, w *os.File, member string) error {
	z, err := zip.NewReader(in, size)
	if err != nil {
		return err
	}
	var found *zip.File
	var seen names
	for _, f := range z.File {
		if f.FileInfo().IsDir() {
			continue
		}
		if seen.add(f.Name); member == "" || path.Clean(f.Name) == path.Clean(member) {
			found = f
		}
	}
	switch {
	case member == "" && seen.count != 1:
		return fmt.Errorf("it has %d files (%s): name one of them as member", seen.count, seen.list())
	case found == nil:
		return seen.missing(member)
	case !found.Mode().IsRegular():
		return fmt.Errorf("the member %q is no regular file", found.Name)
	}
	r, err := found.Open()
	if err != nil {
		return err
	}
	return errors.Join(write(ctx, w, r), r.Close())
}

// names are the first names of an archive, for messages.
type names struct {
	first []string
	count int
}

func (n *names) add(name string) {
	if n.count++; len(n.first) < 10 {
		n.first = append(n.first, fmt.Sprintf("%.100q", name))
	}
}

func (n *names) list() string {
	text := strings.Join(n.first, ", ")
	if n.count > len(n.first) {
		text += ", ..."
	}
	return text
}

func (n *names) missing(member string) error {
	return fmt.Errorf("it has no member %q (have %s)", member, n.list())
}

// write makes w what r gives, with holes for zeros.
func write(ctx context.Context, w *os.File, r io.Reader) error {
	if err := w.Truncate(0); err != nil {
		return err
	}
	buf, at := make([]byte, 1<<20), int64(0)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := fill(r, buf)
		for from, to := range sparse.Runs(buf[:n], 4096) {
			if _, err := w.WriteAt(buf[from:to], at+int64(from)); err != nil {
				return err
			}
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF:
			return w.Truncate(at)
		case io.ErrUnexpectedEOF:
			return fmt.Errorf("it was cut off: %w", err)
		default:
			return err
		}
	}
}

// fill is io.ReadFull which keeps apart the end of r, io.EOF, from what r itself calls
// an unexpected one.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = r.Read(buf[n:])
		n += more
	}
	return n, err
}
