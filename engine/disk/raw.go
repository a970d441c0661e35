package disk

import (
	"context"
	"fmt"
	"io"
	"os"
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
