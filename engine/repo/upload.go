package repo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
	"b9.build/b9/engine/repo/internal/backend"
)

const (
	// uploads is how many packs are on their way at once; one waits for the
	// answers to its last requests while another fills the line.
	uploads = 3
	// dense compresses nearly as well as rsync -z. quick takes half the time
	// and 5 % more bytes; it is used where the processor, not the line, is
	// what a long push waits for.
	dense, quick = zstd.SpeedDefault, zstd.SpeedFastest
)

// upload reads files, and sends the blocks that are not known.
type upload struct {
	p     *pushing
	k     *known
	epoch int
	first int // slot of the first pack to send

	pack   *building // being filled; nil: none
	frames chan *frame
	ready  chan *building

	sending atomic.Int32   // packs that wait for the line
	named   sync.WaitGroup // packs that have no name yet
	mu      sync.Mutex
	sent    map[int]packRef // by slot
}

// frame is a group of blocks on the way from the reader to a pack.
type frame struct {
	raw    []byte
	packed []byte // set when done is closed
	blocks int
	late   bool // not of the first pack
	done   chan struct{}
}

// building is a pack on its way.
type building struct {
	slot   int // among known's packs
	frames []*frame
	ids    []blockID
}

func newUpload(p *pushing, k *known, epoch int) *upload {
	return &upload{p: p, k: k, epoch: epoch, first: len(k.packs), frames: make(chan *frame, 4), ready: make(chan *building), sent: map[int]packRef{}}
}

// packs returns the packs that contents refer to, when all have names.
func (u *upload) packs() []packRef {
	u.mu.Lock()
	defer u.mu.Unlock()
	for slot, p := range u.sent {
		u.k.packs[slot] = p
	}
	return u.k.packs
}

// run reads all files and returns when everything they need is there. In
// between, when all packs have names, it calls described.
func (u *upload) run(ctx context.Context, described func(context.Context, []content) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		contents, err := u.readAll(ctx)
		if err != nil {
			return err
		}
		u.named.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		return described(ctx, contents)
	})
	for range u.p.r.opts.workers {
		g.Go(func() error {
			u.compressAll()
			return nil
		})
	}
	for range uploads {
		g.Go(func() error {
			for b := range u.ready {
				if err := u.send(ctx, b); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// readAll reads the files, and hands over what is left in the last pack.
func (u *upload) readAll(ctx context.Context) ([]content, error) {
	defer close(u.ready)
	defer close(u.frames)
	var contents []content
	for _, f := range u.p.files {
		c, err := u.readFile(ctx, f)
		if err != nil {
			return nil, err
		}
		contents = append(contents, c)
	}
	return contents, u.sendRest(ctx)
}

// compressAll compresses frames until there are no more. What fits into one
// pack is always compressed well: most pushes are small.
func (u *upload) compressAll() {
	well, fast := newEncoder(dense), newEncoder(quick)
	defer well.Close()
	defer fast.Close()
	for f := range u.frames {
		enc := well
		if f.late && u.sending.Load() == 0 {
			enc = fast
		}
		f.packed = enc.EncodeAll(f.raw, make([]byte, 0, len(f.raw)/2))
		f.raw = nil
		close(f.done)
	}
}

func (u *upload) readFile(ctx context.Context, from StepFile) (content, error) {
	f, info, err := sparse.Open(from.Path)
	if err != nil {
		return content{}, backend.Mark(err, ErrSource)
	}
	defer f.Close()
	c := content{name: from.Name, size: info.Size()}
	sum := digest.New(c.size)
	counted := int64(0) // up to here the meter has counted
	var failed error    // in sending
	o := scanOptions{workers: u.p.r.opts.workers, blocks: true, leaves: true}
	err = scan(ctx, f, c.size, o, func(s *segment) error {
		sum.Add(s.leaves)
		u.p.meter.count(0, 0, s.start-counted)
		counted = min(s.start+int64(len(s.data)), c.size)
		failed = u.segment(ctx, &c, s)
		return failed
	})
	if failed != nil || ctx.Err() != nil {
		return c, err
	}
	u.p.meter.count(0, 0, c.size-counted)
	c.digest = sum.Digest()
	switch {
	case err != nil:
	case from.Digest.IsZero():
		err = unchanged(f, info)
	case from.Digest != c.digest:
		err = fmt.Errorf("%s has the digest %s instead of %s: %w", f.Name(), c.digest, from.Digest, sparse.ErrChanged)
	}
	return c, backend.Mark(err, ErrSource)
}

// segment adds each block of s to c, and to a pack if the repository lacks it.
func (u *upload) segment(ctx context.Context, c *content, s *segment) error {
	var moved, reused, holes int64
	for i, id := range s.ids {
		at := s.start/blockSize + int64(i)
		n := min(blockSize, c.size-at*blockSize)
		if id == (blockID{}) {
			holes += n
			continue
		}
		where, ok := u.k.places[id]
		if ok {
			reused += n
		} else {
			moved += n
			var err error
			if where, err = u.add(ctx, id, s.data[i*blockSize:(i+1)*blockSize]); err != nil {
				return err
			}
		}
		c.addBlock(at, where)
	}
	u.p.meter.count(moved, reused, holes)
	return nil
}

// addBlock adds a block to the runs.
func (c *content) addBlock(at int64, where blockRef) {
	if n := len(c.runs); n > 0 {
		last := &c.runs[n-1]
		if last.at+int64(last.count) == at && last.pack == int(where.pack) && last.block+last.count == int(where.block) {
			last.count++
			return
		}
	}
	c.runs = append(c.runs, run{at: at, count: 1, pack: int(where.pack), block: int(where.block)})
}

// add puts a new block into the pack that is being filled.
func (u *upload) add(ctx context.Context, id blockID, block []byte) (blockRef, error) {
	if u.pack == nil {
		u.pack = &building{slot: len(u.k.packs)}
		u.k.packs = append(u.k.packs, packRef{})
	}
	b := u.pack
	where := blockRef{int32(b.slot), int32(len(b.ids))}
	u.k.places[id] = where
	b.ids = append(b.ids, id)
	if len(b.frames) == 0 || b.frames[len(b.frames)-1].blocks == frameBlocks {
		b.frames = append(b.frames, &frame{raw: make([]byte, 0, frameBlocks*blockSize), late: b.slot > u.first, done: make(chan struct{})})
	}
	f := b.frames[len(b.frames)-1]
	f.raw = append(f.raw, block...)
	f.blocks++
	if f.blocks < frameBlocks {
		return where, nil
	}
	if err := handOver(ctx, u.frames, f); err != nil {
		return where, err
	}
	if len(b.ids) < packBlocks {
		return where, nil
	}
	return where, u.enqueue(ctx)
}

// enqueue gives the pack to the goroutines that send.
func (u *upload) enqueue(ctx context.Context) error {
	u.named.Add(1)
	err := handOver(ctx, u.ready, u.pack)
	if err != nil {
		u.named.Done()
	}
	u.pack = nil
	return err
}

// sendRest sends what is left of the last frame and pack.
func (u *upload) sendRest(ctx context.Context) error {
	if u.pack == nil {
		return nil
	}
	if last := u.pack.frames[len(u.pack.frames)-1]; last.blocks < frameBlocks {
		if err := handOver(ctx, u.frames, last); err != nil {
			return err
		}
	}
	return u.enqueue(ctx)
}

// send uploads one pack.
func (u *upload) send(ctx context.Context, b *building) error {
	p, file, err := u.compose(ctx, b)
	if err != nil {
		return err
	}
	if p.blocks == packBlocks {
		u.p.r.files.Widen()
	}
	u.sending.Add(1)
	defer u.sending.Add(-1)
	note := sentPack{p.id, p.data, p.index, int64(p.blocks), u.epoch}
	u.p.uploading(note)
	if err := backend.Write(ctx, u.p.r.files, p.path(), file); err != nil {
		return err
	}
	u.p.r.state.put(p.id, file[p.data:])
	u.p.uploaded(note)
	return nil
}

// compose makes the file of a pack, when its frames are compressed.
func (u *upload) compose(ctx context.Context, b *building) (packRef, []byte, error) {
	defer u.named.Done()
	x := packIndex{ids: b.ids}
	var parts [][]byte
	p := packRef{blocks: len(b.ids)}
	for _, f := range b.frames {
		select {
		case <-f.done:
		case <-ctx.Done():
			return p, nil, ctx.Err()
		}
		x.frames = append(x.frames, frameRef{length: int64(len(f.packed)), blocks: f.blocks})
		parts = append(parts, f.packed)
		p.data += int64(len(f.packed))
	}
	index := x.encode()
	p.id, p.index = newFileID(index), int64(len(index))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sent[b.slot] = p
	return p, slices.Concat(append(parts, index)...), nil
}
