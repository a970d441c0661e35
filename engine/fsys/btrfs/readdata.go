package btrfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/fsys/internal/volume"
)

// Compressions of an extent.
const (
	packedZlib = 1
	packedLZO  = 2
	packedZstd = 3
)

// maxPacked is the longest extent that is compressed, in bytes of the file.
const maxPacked = 1 << 20

// run is a run of a file's bytes as it was read.
type run struct {
	offset, length int64 // in the file
	at             int64 // in the image, of what is not packed; volume.Hole is zeros
	packed         byte
	stored         int64  // bytes in the image
	whole, skip    int64  // bytes that it unpacks to, and those of them before offset
	inline         []byte // what lies in the item
}

// unpacked is the extent that was unpacked last.
type unpacked struct {
	at   int64
	data []byte
}

// runs reads where a file's bytes lie.
func (v *reader) runs(n *volume.Node) (list []run, plain bool, err error) {
	o := n.Private.(*object)
	plain = true
	end := int64(0)
	err = v.items(o.root, o.number, typeExtentData, func(offset uint64, b []byte) error {
		r, err := v.run(int64(offset), b)
		if err != nil {
			return err
		}
		if r.offset < end || r.length <= 0 || r.offset > 1<<62-r.length || len(list) > maxPieces {
			return volume.Damaged("the extents of a file lie over each other")
		}
		end = r.offset + r.length
		plain = plain && r.packed == 0 && r.inline == nil
		list = append(list, r)
		return nil
	})
	return list, plain, err
}

func (v *reader) run(offset int64, b []byte) (run, error) {
	if len(b) < 21 || offset < 0 {
		return run{}, volume.Damaged("an extent of a file is cut off")
	}
	r := run{offset: offset, packed: b[16], whole: int64(le.Uint64(b[8:]))}
	if r.packed > packedZstd || b[17] != 0 || le.Uint16(b[18:]) != 0 {
		return r, fmt.Errorf("an extent is stored in a way (%d) that b9 does not read", r.packed)
	}
	if r.packed == packedLZO {
		return r, errors.New("it is compressed with lzo, which b9 does not read (zlib and zstd it does)")
	}
	if r.packed != 0 && (r.whole <= 0 || r.whole > maxPacked) {
		return r, volume.Damaged("a compressed extent of %d bytes", r.whole)
	}
	if b[20] == 0 {
		if offset != 0 {
			return r, volume.Damaged("bytes in an item at %d of a file", offset)
		}
		if r.inline, r.length = append([]byte{}, b[21:]...), int64(len(b)-21); r.packed != 0 {
			r.length = r.whole
		}
		return r, nil
	}
	if len(b) < 53 {
		return r, volume.Damaged("an extent of a file is cut off")
	}
	logical := le.Uint64(b[21:])
	r.stored, r.skip, r.length = int64(le.Uint64(b[29:])), int64(le.Uint64(b[37:])), int64(le.Uint64(b[45:]))
	if r.stored < 0 || r.skip < 0 || r.length < 0 || r.stored > 1<<40 || r.packed != 0 && (r.stored > 2*maxPacked || r.skip > r.whole-r.length) {
		return r, volume.Damaged("an extent of %d bytes", r.stored)
	}
	if logical == 0 || b[20] == 2 { // a hole, or room that was never written to
		r.at, r.packed = volume.Hole, 0
		return r, nil
	}
	if r.packed == 0 {
		logical += uint64(r.skip)
	}
	at, n, err := v.place(logical)
	if err == nil && r.packed == 0 && n < r.length || r.packed != 0 && n < r.stored {
		err = volume.Damaged("an extent ends outside of its chunk")
	}
	r.at = at
	return r, err
}

func (v *reader) Data(n *volume.Node) (io.ReaderAt, error) {
	list, plain, err := v.runs(n)
	if err != nil {
		return nil, err
	}
	f := &file{v: v, list: list, size: n.Size}
	if plain {
		return &volume.Extents{Pages: v.r, Size: n.Size, Run: f.where}, nil
	}
	return f, nil
}

func (v *reader) ReadLink(n *volume.Node) (string, error) {
	if n.Size >= volume.MaxLinkTarget {
		return "", volume.Damaged("a link of %d bytes", n.Size)
	}
	in, err := v.Data(n)
	if err != nil {
		return "", err
	}
	b := make([]byte, n.Size)
	if k, err := in.ReadAt(b, 0); k < len(b) {
		return "", err
	}
	return string(b), nil
}

// file reads bytes of which some are compressed or lie in items.
type file struct {
	v    *reader
	list []run
	size int64
}

// find is the run that has byte off, nil where that is a hole, which ends at next.
func (f *file) find(off int64) (r *run, next int64) {
	i := sort.Search(len(f.list), func(i int) bool { return f.list[i].offset+f.list[i].length > off })
	if i == len(f.list) {
		return nil, f.size
	}
	if r = &f.list[i]; off < r.offset {
		return nil, min(r.offset, f.size)
	}
	return r, min(r.offset+r.length, f.size)
}

// where says where bytes lie that are as they are, as volume.Extents asks.
func (f *file) where(off, _ int64) (at, n int64, err error) {
	r, next := f.find(off)
	if r == nil || r.at == volume.Hole {
		return volume.Hole, next - off, nil
	}
	return r.at + off - r.offset, next - off, nil
}

// NextData skips holes.
func (f *file) NextData(off int64) (int64, error) {
	for off < f.size {
		r, next := f.find(off)
		if r != nil && (r.at != volume.Hole || r.inline != nil) {
			return off, nil
		}
		off = next
	}
	return f.size, nil
}

func (f *file) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.size {
		return 0, io.EOF
	}
	var end error
	if left := f.size - off; int64(len(b)) > left {
		b, end = b[:left], io.EOF
	}
	for done := 0; done < len(b); {
		r, next := f.find(off + int64(done))
		part := b[done:min(int64(len(b)), next-off)]
		if err := f.read(part, r, off+int64(done)); err != nil {
			return done, err
		}
		done += len(part)
	}
	return len(b), end
}

func (f *file) read(b []byte, r *run, off int64) error {
	switch {
	case r == nil || r.inline == nil && r.at == volume.Hole:
		clear(b)
		return nil
	case r.packed == 0 && r.inline == nil:
		_, err := f.v.r.ReadAt(b, r.at+off-r.offset)
		return err
	case r.packed == 0:
		copy(b, r.inline[off-r.offset:])
		return nil
	}
	data, err := f.v.unpack(r)
	if err != nil {
		return err
	}
	clear(b)
	if from := r.skip + off - r.offset; from < int64(len(data)) {
		copy(b, data[from:])
	}
	return nil
}

// unpack decompresses an extent, and remembers it.
func (v *reader) unpack(r *run) ([]byte, error) {
	stored := r.inline
	if stored == nil {
		if v.unpacked.data != nil && v.unpacked.at == r.at {
			return v.unpacked.data, nil
		}
		stored = make([]byte, r.stored)
		if _, err := v.r.ReadAt(stored, r.at); err != nil {
			return nil, err
		}
	}
	data, err := decompress(stored, r.packed, r.whole)
	if err != nil {
		return nil, volume.Damaged("a compressed extent: %w", err)
	}
	if r.inline == nil {
		v.unpacked = unpacked{r.at, data}
	}
	return data, nil
}

// decompress gives at most size bytes: a stream that ends has padding behind it, and one
// that is damaged or cut off is an error.
func decompress(b []byte, how byte, size int64) (data []byte, err error) {
	var in io.Reader
	if how == packedZlib {
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		in = z
	} else {
		// What follows a frame is taken for the next one: at least the four bytes that
		// should say so are there, so that one that is cut off ends otherwise.
		z, err := zstd.NewReader(io.MultiReader(bytes.NewReader(b), bytes.NewReader(make([]byte, 4))), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		in = z
	}
	data = make([]byte, size)
	n := 0
	for k := 0; n < len(data) && err == nil; n += k {
		k, err = in.Read(data[n:])
	}
	if n == len(data) || err == io.EOF || n > 0 && errors.Is(err, zstd.ErrMagicMismatch) {
		err = nil
	}
	return data[:n], err
}
