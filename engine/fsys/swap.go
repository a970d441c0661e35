package fsys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"b9/engine/size"
)

// SwapOptions describe a swap area.
type SwapOptions struct {
	// Size of the file in bytes, whole pages of 4096; the rest is not used.
	Size int64
	// Label is at most 15 bytes.
	Label string
	// UUID is derived from size and label when empty.
	UUID string
}

const (
	swapPage = 4096 // bytes
	swapMin  = 10   // pages; the kernel takes no less
)

// MakeSwap makes a swap area (Linux, version 1, pages of 4096 bytes, little
// endian) in a new, sparse file at path. The same options give the same bytes. On
// error path is removed unless it was there before.
func MakeSwap(ctx context.Context, path string, o SwapOptions) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("swap: %w", err)
	}
	err := makeFile(path, func(f *os.File) error {
		if err := checkEvery(ctx); err != nil {
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

func (o *SwapOptions) check() error {
	switch {
	case o.Size < swapMin*swapPage:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(swapMin*swapPage))
	case o.Size > 1<<32*swapPage:
		return fmt.Errorf("size %s is above the limit, %s", size.About(o.Size), size.About(1<<32*swapPage))
	case len(o.Label) > 15:
		return fmt.Errorf("label %q is %d bytes long, swap holds 15", o.Label, len(o.Label))
	case o.UUID != "" && !isUUID(o.UUID):
		return fmt.Errorf("%q is no UUID (such as 6f1dc3a2-0b57-4f7e-9d6c-2f8b0c1e4a55)", o.UUID)
	}
	return nil
}

// header is the first page: union swap_header of the kernel.
func (o *SwapOptions) header() []byte {
	le := binary.LittleEndian
	b := make([]byte, swapPage)
	le.PutUint32(b[1024:], 1)
	le.PutUint32(b[1028:], uint32(o.Size/swapPage-1)) // the last page
	id := o.UUID
	if id == "" {
		h := sha256.New()
		hashString(h, "b9 swap")
		hashNumbers(h, uint64(o.Size))
		hashString(h, o.Label)
		id = uuidOf(h.Sum(nil)[:16])
	}
	raw, _ := hex.DecodeString(strings.ReplaceAll(id, "-", "")) // checked
	copy(b[1036:], raw)
	copy(b[1052:1068], o.Label)
	copy(b[swapPage-10:], "SWAPSPACE2")
	return b
}

// probeSwap looks for the signature at the end of the first page, whose size
// is the machine's that made it.
func probeSwap(w *window) (Info, error) {
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		sig, err := w.at(page-10, 10)
		if err != nil {
			return Info{}, err
		}
		if string(sig) != "SWAPSPACE2" {
			continue
		}
		b, err := w.at(1024, 44)
		if err != nil {
			return Info{}, err
		}
		pages := uint64(binary.LittleEndian.Uint32(b[4:])) + 1
		return Info{Type: "swap", UUID: uuidText(b[12:]), Label: cString(b[28:44]),
			Size: clip(pages, uint64(page)), BlockSize: page, Free: -1}, nil
	}
	return Info{}, nil
}
