package raw

import (
	"context"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/disk/image"
)

// Format is the format of plain bytes. Its holes are those of the file.
type Format struct{}

func (Format) Name() string { return "raw" }

func (Format) Extensions() []string { return []string{"raw", "img"} }

func (Format) Probe(head []byte) bool { return false } // nothing marks it

// disk.Open takes the size from the file or block device. A size that is no multiple
// of the sector size is kept as it is.
func (Format) Open(f *os.File, o image.OpenOptions) (image.Image, error) {
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
	return &image.File{File: f, Length: size}, nil
}

// Write makes w a sparse file with the size and contents of src. Where src is a
// raw file, or put together from parts of raw files, and the file system can,
// they share their blocks.
func (Format) Write(ctx context.Context, w *os.File, src image.Image, o image.WriteOptions) error {
	if err := image.RefuseOptions("raw", o.Compress != "", o.Subformat != "", o.Backing != nil); err != nil {
		return err
	}
	if r, ok := src.(*image.File); ok && image.CloneFile(w, r) {
		return nil
	}
	if err := w.Truncate(src.Size()); err != nil {
		return err
	}
	p := image.Pump{Src: image.CloneParts(w, 0, src), Out: w, Unit: image.RawUnit, Progress: o.Progress}
	room := image.Reserve{File: w}
	p.Place = func(units []image.Unit) error {
		for i := range units {
			u := &units[i]
			u.At = u.Off
			u.Body = u.Body[:min(int64(len(u.Body)), src.Size()-u.Off)]
		}
		room.Runs(units)
		return nil
	}
	return p.Run(ctx)
}
