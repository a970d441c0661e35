package repo

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/repo/internal/backend"
)

const (
	// downloads is how many stretches of packs are fetched at once.
	downloads = 8
	// stretchSize bounds a stretch, in bytes.
	stretchSize = 4 << 20
	// stretchGap is how many bytes that nobody needs are fetched to save a
	// round trip.
	stretchGap = 64 << 10
	// windowBlocks and windowPacks bound a window, 2 GiB of data, so that
	// memory does not grow with the image.
	windowBlocks, windowPacks = 1 << 19, 128
	// wholeBase is how much a window must still lack, in blocks, for a base to
	// be read in whole and not only at the same place.
	wholeBase = 4 << 10
)

// How a content is fetched:
//
// A file beside the destination is filled window by window, so that memory
// does not grow with the image. The blocks of a window come from three sources,
// in this order: the file itself, where an interrupted pull left them; local
// files that may have them (bases), which are scanned, and only blocks with a
// name that is missing are used; the repository, where frames with missing blocks
// are joined to stretches, and several stretches are fetched at once. Every block
// is compared with its name before it is written, and the whole file with the
// content's digest in the end. A block that belongs to several places of the file
// is read once and written to all.

// window is a part of a content: the blocks from..to of the file.
type window struct {
	content
	from, to int64
	packs    map[int]bool // those of its runs
	whole    bool         // it is all of the content
}

// windows cuts a content. A run has at most packBlocks blocks, for it lies in
// one pack.
func (c *content) windows() (all []window) {
	w := window{content: *c, packs: map[int]bool{}, to: blocksIn(c.size)}
	first, blocks := 0, 0
	for i, r := range c.runs {
		if i > first && (blocks+r.count > windowBlocks || len(w.packs) == windowPacks && !w.packs[r.pack]) {
			w.runs, w.to = c.runs[first:i], r.at
			all = append(all, w)
			w.from, w.to, w.packs = r.at, blocksIn(c.size), map[int]bool{}
			first, blocks = i, 0
		}
		w.packs[r.pack] = true
		blocks += r.count
	}
	w.runs, w.whole = c.runs[first:], first == 0
	return append(all, w)
}

// hasRoom returns an error if the file system of f has not enough bytes left for
// a content. It does not ask file systems that compress.
func hasRoom(f *os.File, c *content) error {
	var disk unix.Statfs_t
	var st unix.Stat_t
	fd := int(f.Fd())
	const zfs = 0x2fc12fc1
	if unix.Fstatfs(fd, &disk) != nil || unix.Fstat(fd, &st) != nil || disk.Type == unix.BTRFS_SUPER_MAGIC || disk.Type == zfs {
		return nil
	}
	need, free := c.data()-st.Blocks*512, int64(disk.Bavail)*disk.Bsize
	if need > free {
		return fmt.Errorf("%s: it takes %d MiB more, and there are %d left: %w", f.Name(), (need-1)>>20+1, free>>20, unix.ENOSPC)
	}
	return nil
}

// fillAll fills f with a content, window by window.
func (r *Repo) fillAll(ctx context.Context, m *manifest, c *content, f *os.File, bases []string, meter *meter) error {
	if err := f.Truncate(c.size); err != nil {
		return err
	}
	meter.count(0, 0, c.size-c.data())
	for _, w := range c.windows() {
		indexes, err := r.indexes(ctx, m.packs, w.packs)
		if err != nil {
			return err
		}
		if err := newDownload(r, m, &w, indexes, f, meter).fill(ctx, bases); err != nil {
			return err
		}
	}
	return nil
}

// download fills a window of a file. It numbers the data blocks of the window, so
// that holes take no memory however large they are.
type download struct {
	r       *Repo
	packs   []packRef
	c       *window
	indexes []*packIndex
	f       *os.File
	meter   *meter
	at      []int64   // where in the file, by number of the data block
	ids     []blockID // likewise
	have    []bool    // likewise

	mu      sync.Mutex
	missing map[blockID]int32 // number of the first data block with this content
	next    []int32           // number of the next one with the same; -1 for none
}

func newDownload(r *Repo, m *manifest, c *window, indexes []*packIndex, f *os.File, meter *meter) *download {
	d := &download{r: r, packs: m.packs, c: c, indexes: indexes, f: f, meter: meter}
	for _, run := range c.runs {
		for i := range run.count {
			d.at = append(d.at, run.at+int64(i))
		}
		d.ids = append(d.ids, indexes[run.pack].ids[run.block:run.block+run.count]...)
	}
	d.have = make([]bool, len(d.ids))
	return d
}

// fill fills every block of the window.
func (d *download) fill(ctx context.Context, bases []string) error {
	if err := d.resume(ctx); err != nil {
		return err
	}
	d.listMissing()
	for _, base := range bases {
		if len(d.missing) == 0 {
			break
		}
		if err := d.useBase(ctx, base); err != nil {
			return err
		}
	}
	return d.fetch(ctx)
}

// resume finds the blocks that an interrupted pull left in the file. Where zeros
// belong it makes a hole of data that a pull of another version has left, or writes
// zeros where there can't be one.
func (d *download) resume(ctx context.Context) error {
	var held int64
	o := scanOptions{workers: d.r.opts.workers, from: d.c.from * blockSize, to: min(d.c.to*blockSize, d.c.size)}
	err := scan(ctx, d.f, d.c.size, o, func(s *segment) error {
		for i, id := range s.ids {
			at := s.start/blockSize + int64(i)
			if id == (blockID{}) || at < d.c.from || at >= d.c.to {
				continue
			}
			n, ok := slices.BinarySearch(d.at, at)
			if !ok {
				if err := sparse.Zero(ctx, d.f, at*blockSize, min(blockSize, d.c.size-at*blockSize)); err != nil {
					return err
				}
			} else if d.have[n] = id == d.ids[n]; d.have[n] {
				held += min(blockSize, d.c.size-at*blockSize)
			}
		}
		return nil
	})
	d.meter.count(0, held, 0)
	return err
}

// listMissing lists the blocks that resume has not found.
func (d *download) listMissing() {
	d.missing = map[blockID]int32{}
	d.next = make([]int32, len(d.ids))
	for n, id := range slices.Backward(d.ids) {
		if d.have[n] {
			continue
		}
		d.next[n] = -1
		if first, ok := d.missing[id]; ok {
			d.next[n] = first
		}
		d.missing[id] = int32(n)
	}
}

// useBase copies missing blocks from a local file. A base that can't be read is no
// error; the end of ctx is, and a failure to write.
func (d *download) useBase(ctx context.Context, path string) error {
	f, info, err := sparse.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	size := info.Size()
	whole := scanOptions{workers: d.r.opts.workers, to: size}
	if d.c.whole {
		return d.copyFrom(ctx, f, size, whole)
	}
	same := whole
	same.from, same.to = d.c.from*blockSize, min(d.c.to*blockSize, size)
	if err := d.copyFrom(ctx, f, size, same); err != nil || len(d.missing) < wholeBase {
		return err
	}
	return d.copyFrom(ctx, f, size, whole)
}

// copyFrom copies missing blocks from a part of a file, unless a sample of it
// promises nothing.
func (d *download) copyFrom(ctx context.Context, f *os.File, size int64, o scanOptions) error {
	if !d.promising(f, size, o) {
		return ctx.Err()
	}
	var failed error
	err := scan(ctx, f, size, o, func(s *segment) error {
		var n int64
		n, failed = d.fillIn(s.ids, s.data)
		d.meter.count(0, n, 0)
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return ctx.Err()
	}
	return nil
}

// fillIn writes the missing ones of the blocks to every place that needs them,
// and returns how many bytes of the image it wrote. data holds the blocks named
// ids; its caller has verified them.
func (d *download) fillIn(ids []blockID, data []byte) (written int64, err error) {
	for i := 0; i < len(ids); {
		places := d.claim(ids[i])
		if len(places) == 0 {
			i++
			continue
		}
		// Blocks that follow each other here mostly do so there.
		first, n := places[0], 1
		for i+n < len(ids) && d.claimAt(ids[i+n], first+int64(n)) {
			n++
		}
		done, err := d.write(first, data[i*blockSize:(i+n)*blockSize])
		written += done
		for _, at := range places[1:] {
			if err == nil {
				done, err = d.write(at, data[i*blockSize:(i+1)*blockSize])
				written += done
			}
		}
		if err != nil {
			return written, err
		}
		i += n
	}
	return written, nil
}

// claim returns the places in the file that need a content, and removes the
// content from the list of what is missing.
func (d *download) claim(id blockID) (places []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.missing[id]
	if !ok {
		return nil
	}
	delete(d.missing, id)
	for ; n >= 0; n = d.next[n] {
		places = append(places, d.at[n])
	}
	return places
}

// claimAt removes a content from the list if this place in the file is the only
// one that needs it.
func (d *download) claimAt(id blockID, block int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, ok := d.missing[id]
	if !ok || d.next[n] >= 0 || d.at[n] != block {
		return false
	}
	delete(d.missing, id)
	return true
}

// write puts blocks into the file, the last one cut to its size.
func (d *download) write(at int64, data []byte) (int64, error) {
	off := at * blockSize
	n, err := d.f.WriteAt(data[:min(int64(len(data)), d.c.size-off)], off)
	return int64(n), err
}

// stretch is a part of a pack that is fetched at once.
type stretch struct {
	pack        int
	first, last int // frames
	off, length int64
}

// stretches returns what of the packs is needed for the missing blocks.
func (d *download) stretches() []stretch {
	var all []stretch
	for pack, x := range d.indexes {
		if x == nil {
			continue
		}
		need := make([]bool, len(x.frames))
		for n, f := range x.frames {
			need[n] = slices.ContainsFunc(x.ids[f.first:f.first+f.blocks], func(id blockID) bool {
				_, ok := d.missing[id]
				return ok
			})
		}
		all = append(all, join(pack, x.frames, need)...)
	}
	return all
}

// join makes stretches of the frames that are needed.
func join(pack int, frames []frameRef, need []bool) (all []stretch) {
	for n, f := range frames {
		if !need[n] {
			continue
		}
		if len(all) > 0 {
			s := &all[len(all)-1]
			if length := f.off + f.length - s.off; length <= stretchSize && f.off-(s.off+s.length) <= stretchGap {
				s.last, s.length = n, length
				continue
			}
		}
		all = append(all, stretch{pack, n, n, f.off, f.length})
	}
	return all
}

// fetch gets what is still missing from the repository.
func (d *download) fetch(ctx context.Context) error {
	todo := d.stretches()
	if len(todo) > downloads {
		d.r.files.Widen()
	}
	dec := newDecoder(maxUnpacked)
	defer dec.Close()
	err := forEach(ctx, downloads, todo, func(ctx context.Context, _ int, s stretch) error {
		x := d.indexes[s.pack]
		return d.r.readStretch(ctx, dec, d.packs[s.pack], x, s, func(f frameRef, blocks []byte) error {
			n, err := d.fillIn(x.ids[f.first:f.first+f.blocks], blocks)
			d.meter.count(n, 0, 0)
			return err
		})
	})
	if err != nil {
		return err
	}
	if len(d.missing) > 0 {
		return fmt.Errorf("%d blocks are in no pack: %w", len(d.missing), ErrDamaged)
	}
	return nil
}

// maxUnpacked bounds what a frame unpacks to. It leaves room for the decoder to
// tell a frame that is too long from one that is damaged.
const maxUnpacked = 2 * frameBlocks * blockSize

// readStretch fetches a stretch of the pack p, and calls fn with the blocks of
// each of its frames, which are verified. fn must not keep them.
func (r *Repo) readStretch(ctx context.Context, dec *zstd.Decoder, p packRef, x *packIndex, s stretch, fn func(f frameRef, blocks []byte) error) error {
	b, err := backend.ReadPart(ctx, r.files, p.path(), s.off, s.length)
	if err != nil {
		return lost(p.path(), err)
	}
	var buf []byte
	for _, f := range x.frames[s.first : s.last+1] {
		if buf, err = x.frame(dec, b[f.off-s.off:][:f.length], f, buf); err != nil {
			return fmt.Errorf("%s: %w: %w", p.path(), ErrDamaged, err)
		}
		if err := fn(f, buf); err != nil {
			return err
		}
	}
	return nil
}

// frame unpacks a frame into the space of buf and compares each block with its
// name.
func (x *packIndex) frame(dec *zstd.Decoder, packed []byte, f frameRef, buf []byte) ([]byte, error) {
	raw, err := dec.DecodeAll(packed, buf[:0])
	if err != nil {
		return nil, fmt.Errorf("frame at %d: %w", f.off, err)
	}
	if len(raw) != f.blocks*blockSize {
		return nil, fmt.Errorf("frame at %d has %d bytes instead of %d", f.off, len(raw), f.blocks*blockSize)
	}
	for i, want := range x.ids[f.first : f.first+f.blocks] {
		if idOf(raw[i*blockSize:(i+1)*blockSize]) != want {
			return nil, fmt.Errorf("block %d is not %x as its index says", f.first+i, want)
		}
	}
	return raw, nil
}

// verify compares the whole file with the content's digest.
func verify(ctx context.Context, workers int, f *os.File, c *content) error {
	got, err := digest.Content(ctx, f, c.size, workers)
	if err != nil {
		return err
	}
	if got != c.digest {
		return fmt.Errorf("%s: %w: what its manifest makes has the digest %s instead of %s", c.name, ErrDamaged, got, c.digest)
	}
	return nil
}
