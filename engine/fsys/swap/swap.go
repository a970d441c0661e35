// Package swap makes and recognises Linux swap areas, version 1: union
// swap_header of the kernel's include/linux/swap.h. It hides the header; it reads
// no pages, enables nothing, and makes pages of 4096 bytes only.
//
//	Make, Options   a new swap area; Least is the smallest
//	Probe           a header recognised, with pages of any size
package swap

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
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
	page = 4096 // bytes

	// Least is the smallest swap area that the kernel takes, in bytes.
	Least = 10 * page
)

// Make makes a swap area (Linux, version 1, pages of 4096 bytes, little
// endian) in a new, sparse file at path. The same options give the same bytes. After
// an error path is what it was before.
func Make(ctx context.Context, path string, o Options) error {
	return tree.Make(ctx, path, "swap", nil, o.check, func(*tree.Tree) (func(*os.File) error, error) {
		return o.write, context.Cause(ctx)
	})
}

func (o *Options) write(f *os.File) error {
	if err := f.Truncate(o.Size); err != nil {
		return err
	}
	_, err := f.WriteAt(o.header(), 0)
	return err
}

func (o *Options) check() error {
	switch {
	case o.Size < Least:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(Least))
	case o.Size > 1<<32*page:
		return fmt.Errorf("size %s is above the limit, %s", size.About(o.Size), size.About(1<<32*page))
	case len(o.Label) > 15:
		return fmt.Errorf("label %q is %d bytes long, swap holds 15", o.Label, len(o.Label))
	case o.UUID != "":
		_, err := ident.Parse(o.UUID)
		return err
	}
	return nil
}

// header is the first page: union swap_header of the kernel.
func (o *Options) header() []byte {
	le := binary.LittleEndian
	b := make([]byte, page)
	le.PutUint32(b[1024:], 1)
	le.PutUint32(b[1028:], uint32(o.Size/page-1)) // the last page
	id := o.UUID
	if id == "" {
		h := ident.NewHash()
		h.Text("b9 swap")
		h.Numbers(uint64(o.Size))
		h.Text(o.Label)
		id = ident.New(h.Sum()[:16])
	}
	raw, _ := ident.Parse(id) // checked
	copy(b[1036:], raw)
	copy(b[1052:1068], o.Label)
	copy(b[page-10:], "SWAPSPACE2")
	return b
}

// Probe looks for the signature at the end of the first page, whose size
// is the machine's that made it.
func Probe(r *io.SectionReader) (tree.Info, error) {
	for _, size := range []int64{4096, 8192, 16384, 65536} {
		sig, err := volume.Peek(r, size-10, 10)
		if err != nil {
			return tree.Info{}, err
		}
		if string(sig) != "SWAPSPACE2" {
			continue
		}
		b, err := volume.Peek(r, 1024, 44)
		if err != nil {
			return tree.Info{}, err
		}
		pages := uint64(binary.LittleEndian.Uint32(b[4:])) + 1
		return tree.Info{Type: "swap", UUID: ident.Text(b[12:]), Label: volume.Text(b[28:44]),
			Size: volume.Bytes(pages, uint64(size)), BlockSize: size, Free: -1}, nil
	}
	return tree.Info{}, nil
}
