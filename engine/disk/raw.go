package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// raw is the format of plain bytes. Its holes are those of the file.
type raw struct{}

func (raw) Name() string           { return "raw" }
func (raw) Extensions() []string   { return []string{"raw", "img"} }
func (raw) Probe(head []byte) bool { return false } // nothing marks it

// Open takes the size from the file or block device. A size that is no multiple
// of the sector size is kept as it is.
func (raw) Open(f *os.File, o OpenOptions) (Image, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if m := info.Mode(); !m.IsRegular() && m.Type() != os.ModeDevice {
		return nil, fmt.Errorf("not a regular file or block device (%s)", m.Type())
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return &rawImage{file: f, size: size}, nil
}

type rawImage struct {
	file *os.File
	size int64
}

func (r *rawImage) Size() int64  { return r.size }
func (r *rawImage) Close() error { return r.file.Close() }

func (r *rawImage) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, r.size)
	if n == 0 {
		return 0, eof
	}
	if got, err := r.file.ReadAt(p[:n], off); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%s was shortened while it was read: %w", r.file.Name(), io.ErrUnexpectedEOF)
		}
		return got, err
	}
	return n, eof
}

// Extent asks the file system where data and holes are (lseek(2), SEEK_DATA).
func (r *rawImage) Extent(off int64) (Extent, error) {
	if off < 0 || off >= r.size {
		return Extent{}, io.EOF
	}
	data, err := r.file.Seek(off, unix.SEEK_DATA)
	if errors.Is(err, syscall.ENXIO) {
		return Extent{off, r.size - off, Hole}, nil
	}
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) {
		return Extent{off, r.size - off, Data}, nil // no such call for this file
	}
	if err != nil {
		return Extent{}, err
	}
	if data > off {
		return Extent{off, min(data, r.size) - off, Hole}, nil
	}
	hole, err := r.file.Seek(off, unix.SEEK_HOLE)
	if err != nil {
		return Extent{}, err
	}
	if hole <= off { // changed in between
		hole = off + 1
	}
	return Extent{off, min(hole, r.size) - off, Data}, nil
}

// rawUnit is the granularity in bytes at which a raw file is kept sparse.
const rawUnit = 4096

// Write makes w a sparse file with the size and contents of src. Where src is a
// raw file, or put together from parts of raw files, and the file system can,
// they share their blocks.
func (raw) Write(ctx context.Context, w *os.File, src Image, o WriteOptions) error {
	if err := refuseOptions("raw", o.Compress != "", o.Subformat != "", o.Backing != nil); err != nil {
		return err
	}
	if r, ok := src.(*rawImage); ok && cloneFile(w, r) {
		return nil
	}
	if err := w.Truncate(src.Size()); err != nil {
		return err
	}
	p := pump{src: cloneParts(w, 0, src), out: w, unit: rawUnit, progress: o.Progress}
	room := reserve{file: w}
	p.place = func(units []unit) error {
		for i := range units {
			u := &units[i]
			u.at = u.off
			u.body = u.body[:min(int64(len(u.body)), src.Size()-u.off)]
		}
		room.runs(units)
		return nil
	}
	return p.run(ctx)
}

// refuseOptions returns an error if an option is set that format knows nothing of.
func refuseOptions(format string, compress, subformat, backing bool) error {
	var what string
	switch {
	case compress:
		what = "compression"
	case subformat:
		what = "subformat"
	case backing:
		what = "backing file"
	default:
		return nil
	}
	return fmt.Errorf("format %s has no %s", format, what)
}
