package disk

import (
	"os"
	"syscall"

	"b9.build/b9/engine/disk/image"
)

// Info is what an image says of itself.
type Info struct {
	image.Layout // its Unit is 0 for raw
	Format       string
	Size         int64 // virtual size in bytes
	Allocated    int64 // bytes that the file takes on the disk
	FileSize     int64 // its length in bytes
	Backing      *image.Backing
}

// Inspect reads what the image at path says of itself. Backing files are named
// and not opened.
func Inspect(path, format string, o image.OpenOptions) (*Info, error) {
	info := &Info{Format: format}
	o.Backing = func(b image.Backing) (image.Image, error) {
		info.Backing = &b
		return image.Blank(0), nil
	}
	img, err := Open(path, format, o)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	info.Size = img.Size()
	if s, ok := img.(image.Structured); ok {
		info.Layout = s.Layout()
	}
	return info, info.stat(path)
}

// stat asks the file system for the sizes of the file itself.
func (i *Info) stat(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	i.FileSize = st.Size()
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		i.Allocated = s.Blocks * 512
	}
	return nil
}
