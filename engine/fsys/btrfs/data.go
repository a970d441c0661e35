package btrfs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// piece is a run of a file's bytes, in whole blocks, and its logical address.
type piece struct {
	offset, at, bytes int64
}

// maxPiece is the longest extent in bytes.
const maxPiece = 128 << 20

// data writes the bytes of all files that are too long for their items; blocks of zeros
// stay out.
func (w *writer) data() (map[*node][]piece, error) {
	all := map[*node][]piece{}
	for _, s := range w.subs {
		for _, d := range s.nodes {
			if !d.IsRegular() || d.Size <= inlineLimit {
				continue
			}
			list, err := w.file(d)
			if errors.Is(err, errNoRoom) {
				return nil, err
			}
			if err != nil {
				return nil, fmt.Errorf("/%s: %w", d.path, err)
			}
			all[d] = list
			w.record(s, d, list)
		}
	}
	return all, nil
}

// record makes the items of extents, each of which belongs to one file.
func (w *writer) record(s *subvolume, d *node, list []piece) {
	for _, p := range list {
		data := append(words(nil, 1, generation, 1), typeDataRef)
		data = le.AppendUint32(words(data, s.id, d.number, uint64(p.offset)), 1)
		w.extent = append(w.extent, item{key: key{uint64(p.at), typeExtent, uint64(p.bytes)}, data: data})
	}
}

func (w *writer) file(d *node) ([]piece, error) {
	in, err := d.Open()
	if err != nil {
		return nil, err
	}
	list, err := w.copy(d.Inode, in)
	return list, errors.Join(err, in.Close())
}

func (w *writer) copy(n *tree.Inode, in io.Reader) (list []piece, err error) {
	for off := int64(0); off < n.Size; {
		if err := context.Cause(w.ctx); err != nil {
			return nil, err
		}
		if off, err = skipHole(in, off); err != nil {
			return nil, err
		}
		b := w.buf[:min(int64(len(w.buf)), n.Size-off)]
		if _, err := io.ReadFull(in, b); err != nil && len(b) > 0 {
			return nil, n.Short(err)
		}
		padded := w.buf[:(len(b)+blockSize-1)/blockSize*blockSize]
		clear(padded[len(b):])
		for from, to := range sparse.Runs(padded, blockSize) {
			if list, err = w.blocks(list, off+int64(from), padded[from:to]); err != nil {
				return nil, err
			}
		}
		off += int64(len(b))
	}
	return list, n.CheckEnd(in)
}

// skipHole moves a reader to the block in which its next data is.
func skipHole(in io.Reader, off int64) (int64, error) {
	h, ok := in.(tree.HoleSkipper)
	s, seeks := in.(io.Seeker)
	if !ok || !seeks {
		return off, nil
	}
	next, err := h.NextData(off)
	if err != nil {
		return 0, err
	}
	return s.Seek(next/blockSize*blockSize, io.SeekStart)
}

// blocks writes whole blocks of a file and notes their checksums.
func (w *writer) blocks(list []piece, off int64, b []byte) ([]piece, error) {
	for len(b) > 0 {
		c, n, err := w.dataRoom(int64(len(b)))
		if err != nil {
			return nil, err
		}
		if _, err := w.f.WriteAt(b[:n], c.stripes[0]+c.used); err != nil {
			return nil, err
		}
		for i := int64(0); i < n; i += blockSize {
			c.sums = append(c.sums, crc32.Checksum(b[i:i+blockSize], castagnoli()))
		}
		p := piece{off, c.logical + c.used, n}
		if last := len(list) - 1; c.used > 0 && last >= 0 && list[last].offset+list[last].bytes == off && list[last].at+list[last].bytes == p.at && list[last].bytes+n <= maxPiece {
			list[last].bytes += n
		} else {
			list = append(list, p)
		}
		c.used, off, b = c.used+n, off+n, b[n:]
	}
	return list, nil
}
