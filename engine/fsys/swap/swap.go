package swap

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
)

// Options describe a swap area.
type Options struct {
	// Size of the file in bytes, whole pages of 4096; the rest is not used.
	Size int64
	// Label is at most 15 bytes.
	Label string
	// UUID is derived from size and label when empty.
	UUID string
}

const (
	Page = 4096 // bytes
	Min  = 10   // pages; the kernel takes no less
)

// Make makes a swap area (Linux, version 1, pages of 4096 bytes, little
// endian) in a new, sparse file at path. The same options give the same bytes. On
// error path is removed unless it was there before.
func Make(ctx context.Context, path string, o Options) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	err := tree.MakeFile(path, func(f *os.File) error {
		if err := tree.CheckEvery(ctx); err != nil {
			return err
		}
		if err := f.Truncate(o.Size); err != nil {
			return err
		}
		_, err := f.WriteAt(o.header(), 0)
		return err
	})
	if err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	return nil
}

func (o *Options) check() error {
	switch {
	case o.Size < Min*Page:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(Min*Page))
	case o.Size > 1<<32*Page:
		return fmt.Errorf("size %s is above the limit, %s", size.About(o.Size), size.About(1<<32*Page))
	case len(o.Label) > 15:
		return fmt.Errorf("label %q is %d bytes long, swap holds 15", o.Label, len(o.Label))
	case o.UUID != "" && !tree.IsUUID(o.UUID):
		return fmt.Errorf("%q is no UUID (such as 6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55)", o.UUID)
	}
	return nil
}

// header is the first page: union swap_header of the kernel.
func (o *Options) header() []byte {
	le := binary.LittleEndian
	b := make([]byte, Page)
	le.PutUint32(b[1024:], 1)
	le.PutUint32(b[1028:], uint32(o.Size/Page-1)) // the last page
	id := o.UUID
	if id == "" {
		h := sha256.New()
		tree.HashString(h, "b9 swap")
		tree.HashNumbers(h, uint64(o.Size))
		tree.HashString(h, o.Label)
		id = tree.UUIDOf(h.Sum(nil)[:16])
	}
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", "")) // checked
	copy(b[1036:], raw)
	copy(b[1052:1068], o.Label)
	copy(b[Page-10:], "SWAPSPACE2")
	return b
}

// Probe looks for the signature at the end of the first page, whose size
// is the machine's that made it.
func Probe(w *tree.Window) (tree.Info, error) {
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		sig, err := w.At(page-10, 10)
		if err != nil {
			return tree.Info{}, err
		}
		if string(sig) != "SWAPSPACE2" {
			continue
		}
		b, err := w.At(1024, 44)
		if err != nil {
			return tree.Info{}, err
		}
		pages := uint64(binary.LittleEndian.Uint32(b[4:])) + 1
		return tree.Info{Type: "swap", UUID: tree.UUIDText(b[12:]), Label: tree.CString(b[28:44]),
			Size: tree.Clip(pages, uint64(page)), BlockSize: page, Free: -1}, nil
	}
	return tree.Info{}, nil
}
