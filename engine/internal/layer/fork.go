package layer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// Fork is an image that begins as another one and is written to: what was written
// lies in a file, everything else in the base. Its methods may be called
// concurrently, except Close.
//
// A block comes into the file at the first write to it, whole: what the write leaves
// of it is copied from the base before. So as long as a block is the base's, what the
// file holds there does not count, and a write that fails half way (a full disk)
// leaves the block as it was. The exception is a block that is all hole in the base:
// it is not copied, since the file has a hole there as well. What a failed write left
// there is made a hole again for that reason.
type Fork struct {
	base blob.Blob
	of   digest.Digest
	file *os.File

	mu     sync.RWMutex // held for writing where one of these changes
	size   int64
	kept   int64 // at and after this offset the base is not read
	blocks blocks
	buf    [BlockSize]byte
	broken error // why the image can't be relied on any more
}

// New makes a fork of base, the image with the digest of, in file, which is empty and
// open for reading and writing. The fork takes over both, unless there is an error.
func New(base blob.Blob, of digest.Digest, file *os.File) (*Fork, error) {
	if err := file.Truncate(blocksOf(base.Size()) * BlockSize); err != nil {
		return nil, err
	}
	return start(base, of, file, &Trailer{Size: base.Size(), Kept: base.Size()}), nil
}

// Continue makes a fork of a difference that was finished, to be written to again.
// Until Finish there is no trailer in the file.
func Continue(base blob.Blob, file *os.File) (*Fork, error) {
	t, err := Read(file)
	if err != nil {
		return nil, err
	}
	if t.Kept > base.Size() {
		return nil, fmt.Errorf("%s: %w", file.Name(), damaged("it keeps %d bytes of a base of %d", t.Kept, base.Size()))
	}
	if err := file.Truncate(blocksOf(t.Size) * BlockSize); err != nil {
		return nil, err
	}
	return start(base, t.Base, file, t), nil
}

func start(base blob.Blob, of digest.Digest, file *os.File, t *Trailer) *Fork {
	f := &Fork{base: base, of: of, file: file, size: t.Size, kept: t.Kept}
	for _, r := range t.Runs {
		f.blocks.set(r.Start, r.End(), r.Kind)
	}
	return f
}

// Size implements blob.Blob.
func (f *Fork) Size() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size
}

// piece returns the kind of the bytes at off, and where those of the same source end,
// at end at most. What lies behind the part of the base that is kept is Zero.
func (f *Fork) piece(off, end int64) (Kind, int64) {
	k, to := f.blocks.run(off/BlockSize, blocksOf(end))
	end = min(end, to*BlockSize)
	switch {
	case k == Base && off >= f.kept:
		return Zero, end
	case k == Base:
		return Base, min(end, f.kept)
	}
	return k, end
}

// ReadAt implements io.ReaderAt.
func (f *Fork) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n, end := blob.Clip(len(p), off, f.size)
	if f.broken != nil {
		return 0, f.broken
	}
	return n, f.read(p[:n], off, end)
}

// read fills p, and returns end if that went well.
func (f *Fork) read(p []byte, off int64, end error) error {
	for stop := off + int64(len(p)); off < stop; {
		k, to := f.piece(off, stop)
		piece := p[:to-off]
		var err error
		switch k {
		case Zero:
			clear(piece)
		case Here:
			err = full(f.file.ReadAt(piece, off))
		default:
			err = full(f.base.ReadAt(piece, off))
		}
		if err != nil {
			return err
		}
		p, off = p[to-off:], to
	}
	return end
}

// full turns the result of a read, which must be whole, into an error.
func full(_ int, err error) error {
	if err == io.EOF {
		return nil // the last bytes; a blob that was shortened says so otherwise
	}
	return err
}

// Extent implements blob.Blob.
func (f *Fork) Extent(off int64) (blob.Extent, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if off < 0 || off >= f.size {
		return blob.Extent{}, io.EOF
	}
	switch k, to := f.piece(off, f.size); k {
	case Zero:
		return blob.Extent{Start: off, Length: to - off, State: blob.Hole}, nil
	case Here:
		return fileExtent(f.file, off, to)
	default:
		return within(f.base, off, to)
	}
}

// fileExtent is an extent of a file, whatever its size was when it was opened.
func fileExtent(file *os.File, off, end int64) (blob.Extent, error) {
	start, stop, err := sparse.Run(file, off, end)
	switch {
	case err != nil:
		return blob.Extent{}, err
	case start > off:
		return blob.Extent{Start: off, Length: start - off, State: blob.Hole}, nil
	}
	return blob.Extent{Start: off, Length: stop - off, State: blob.Data}, nil
}

func (f *Fork) direct(off int64, n int) (uintptr, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	end := off + int64(n)
	if off < 0 || n <= 0 || end > f.size || f.broken != nil {
		return 0, false
	}
	k, to := f.piece(off, end)
	switch {
	case to < end || k == Zero:
		return 0, false
	case k == Here:
		return f.file.Fd(), true
	}
	return Direct(f.base, off, n)
}

// Runs lists the blocks that are not the base's, in order: each may have been written
// to, all others were not.
func (f *Fork) Runs() []Run {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.blocks.runs(blocksOf(f.size))
}

// Sync flushes what was written, without the trailer, to the disk.
func (f *Fork) Sync() error { return f.file.Sync() }

// Finish appends the trailer, and returns it. The file is a whole difference until
// something is written to the fork again, after which Finish is due once more. It
// flushes nothing.
func (f *Fork) Finish() (*Trailer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return nil, f.broken
	}
	t := &Trailer{Base: f.of, Size: f.size, Kept: f.kept, Runs: f.blocks.runs(blocksOf(f.size))}
	if err := f.cut(); err != nil {
		return nil, err
	}
	_, err := f.file.WriteAt(t.encode(), blocksOf(f.size)*BlockSize)
	return t, err
}

// cut removes what is behind the blocks: the trailer.
func (f *Fork) cut() error { return f.file.Truncate(blocksOf(f.size) * BlockSize) }

// Close closes the file and the base.
func (f *Fork) Close() error {
	return errors.Join(f.file.Close(), f.base.Close())
}

// Truncate makes the image size bytes long. What is added reads as zeros.
func (f *Fork) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	if size < 0 || size > maxSize {
		return fmt.Errorf("an image can't have %d bytes", size)
	}
	return f.resize(size)
}

func (f *Fork) resize(size int64) error {
	if err := f.cut(); err != nil {
		return err
	}
	if size < f.size {
		// What the file had behind size is gone, and zero when it grows again.
		if err := f.file.Truncate(size); err != nil {
			return err
		}
		f.blocks.set(blocksOf(size), blocksOf(f.size), Base)
	}
	f.size, f.kept = size, min(f.kept, size)
	return f.cut()
}

// WriteAt implements io.WriterAt. What is written behind the end makes the image
// longer.
func (f *Fork) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > maxSize-int64(len(p)) {
		return 0, fmt.Errorf("write of %d bytes at the offset %d", len(p), off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if done, n, err := f.rewrite(p, off); done {
		return n, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return 0, f.broken
	}
	end := off + int64(len(p))
	if end > f.size {
		if err := f.resize(end); err != nil {
			return 0, err
		}
	}
	if err := f.admit(off, end); err != nil {
		return 0, err
	}
	n, err := f.file.WriteAt(p, off)
	if err != nil {
		return 0, f.undo(off, end, err)
	}
	f.blocks.set(off/BlockSize, blocksOf(end), Here)
	return n, nil
}

// rewrite writes where all blocks are in the file, which many may do at once.
func (f *Fork) rewrite(p []byte, off int64) (done bool, n int, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	end := off + int64(len(p))
	if end > f.size || f.broken != nil {
		return false, 0, nil
	}
	if k, to := f.blocks.run(off/BlockSize, blocksOf(end)); k != Here || to < blocksOf(end) {
		return false, 0, nil
	}
	n, err = f.file.WriteAt(p, off)
	return true, n, err
}

// admit brings the first and the last block of a write, [off, end), into the file
// where the write leaves something of them.
func (f *Fork) admit(off, end int64) error {
	first, last := off/BlockSize, (end-1)/BlockSize
	if off%BlockSize != 0 {
		if err := f.fetch(first); err != nil {
			return err
		}
	}
	if end < min((last+1)*BlockSize, f.size) && (last != first || off%BlockSize == 0) {
		return f.fetch(last)
	}
	return nil
}

// fetch brings block b into the file.
func (f *Fork) fetch(b int64) error {
	start, end := b*BlockSize, min((b+1)*BlockSize, f.size)
	switch f.blocks.at(b) {
	case Here:
		return nil
	case Base:
		if empty, err := f.empty(start, min(end, f.kept)); err != nil {
			return err
		} else if !empty {
			buf := f.buf[:end-start]
			if err := f.read(buf, start, nil); err != nil {
				return err
			}
			if _, err := f.file.WriteAt(buf, start); err != nil {
				return err
			}
		}
	}
	f.blocks.set(b, b+1, Here)
	return nil
}

// empty reports whether all of [off, end) is hole in the base.
func (f *Fork) empty(off, end int64) (bool, error) {
	for off < end {
		e, err := f.base.Extent(off)
		if err != nil || e.State == blob.Data {
			return false, err
		}
		off = e.End()
	}
	return true, nil
}

// undo makes holes of what a failed write may have left in blocks that are not in the
// file, and returns cause.
func (f *Fork) undo(off, end int64, cause error) error {
	for b := off / BlockSize; b < blocksOf(end); b++ {
		if f.blocks.at(b) == Here {
			continue
		}
		if err := sparse.Zero(context.Background(), f.file, b*BlockSize, BlockSize); err != nil {
			f.broken = fmt.Errorf("%s: a write failed and could not be undone: %w", f.file.Name(), err)
		}
	}
	return cause
}

// Zero makes the n bytes at off zero, as far as they lie in the image, and frees what
// they took.
func (f *Fork) Zero(off, n int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return f.broken
	}
	if off < 0 || n < 0 {
		return fmt.Errorf("%d bytes at the offset %d can't be made zero", n, off)
	}
	end := off + min(n, max(0, f.size-off))
	from, to := blocksOf(off), end/BlockSize
	if end == f.size {
		to = blocksOf(end)
	}
	if from >= to { // less than a block, or parts of two
		mid := min(end, (off/BlockSize+1)*BlockSize)
		if err := f.zeroPart(off, mid); err != nil {
			return err
		}
		return f.zeroPart(mid, end)
	}
	if err := f.zeroPart(off, from*BlockSize); err != nil {
		return err
	}
	if err := f.zeroPart(to*BlockSize, end); err != nil {
		return err
	}
	if err := sparse.Zero(context.Background(), f.file, from*BlockSize, (to-from)*BlockSize); err != nil {
		return err
	}
	f.blocks.set(from, to, Zero)
	return nil
}

// zeroPart makes [off, end), which lies in one block, zero.
func (f *Fork) zeroPart(off, end int64) error {
	if off >= end {
		return nil
	}
	b := off / BlockSize
	switch f.blocks.at(b) {
	case Zero:
		return nil
	case Base:
		if empty, err := f.empty(off, min(end, f.kept)); err != nil || empty {
			return err
		}
		if err := f.fetch(b); err != nil {
			return err
		}
	}
	return sparse.Zero(context.Background(), f.file, off, end-off)
}
