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

	dense, quick *zstd.Encoder
	compressing  errgroup.Group // frames
	pack         *building      // being filled; nil: none
	own          []*building    // all packs to send, in order
	sending      atomic.Int32   // packs that wait for the line
	named        sync.WaitGroup // packs that have no name yet

	queue  []queued // blocks of which it is not decided yet whether they are sent
	fresh  int      // blocks in queue that were not known
	chunk  []byte   // where the data of queue lies
	moved  int      // blocks that were put into packs
	claim  int      // that packs belong to which are sent now
	claims int      // such packs
}

// queued is a block of a file.
type queued struct {
	c     *content
	id    blockID
	at    int64     // in blocks
	size  int64     // bytes; less than a block at the end of a file
	data  []byte    // nil for one that was known
	where *blockRef // of one that is known by the image's leaves
}

// maxQueue bounds the memory for blocks that are known, and wait behind others.
const maxQueue = 1 << 16

// building is a pack on its way.
type building struct {
	slot   int      // among known's packs
	claim  int      // see claims
	ref    *packRef // empty until it has a name
	ids    []blockID
	frames []*frame
	raw    []byte // blocks that are in no frame yet
}

// frame is a group of blocks that is compressed on its own.
type frame struct {
	blocks int
	packed []byte // set when done is closed
	done   chan struct{}
}

func newUpload(p *pushing, k *known, epoch int) *upload {
	workers := p.r.opts.workers
	each := zstd.WithEncoderConcurrency(workers)
	u := &upload{p: p, k: k, epoch: epoch, dense: newEncoder(dense, each), quick: newEncoder(quick, each)}
	u.compressing.SetLimit(workers)
	return u
}

// packs returns the packs that contents refer to, when all have names.
func (u *upload) packs() []packRef {
	for _, b := range u.own {
		u.k.packs[b.slot] = *b.ref
	}
	return u.k.packs
}

// run reads all files and returns when everything they need is there. In
// between, when all packs have names, it calls described. The reading waits
// while as many frames or packs are under way as may be.
func (u *upload) run(ctx context.Context, described func(context.Context, []content) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(1 + uploads)
	g.Go(func() error {
		contents, err := u.readAll(ctx, g)
		if err != nil {
			return err
		}
		u.named.Wait()
		if err := ctx.Err(); err != nil {
			return err
		}
		return described(ctx, contents)
	})
	defer u.compressing.Wait()
	return g.Wait()
}

// readAll reads the files. senders run what sends the packs.
func (u *upload) readAll(ctx context.Context, senders *errgroup.Group) ([]content, error) {
	send := func(b *building) {
		if len(b.raw) > 0 {
			u.compress(b)
		}
		b.claim = u.claim
		u.claims++
		u.named.Add(1)
		senders.Go(func() error { return u.send(ctx, b) })
	}
	var contents []content
	for _, f := range u.p.files {
		c, err := u.readFile(ctx, f, send)
		if err != nil {
			return nil, err
		}
		contents = append(contents, c)
	}
	if u.pack != nil {
		send(u.pack)
	}
	return contents, nil
}

// readFile reads one file, and calls send with each pack that is full.
func (u *upload) readFile(ctx context.Context, from StepFile, send func(*building)) (content, error) {
	f, err := from.open()
	if err != nil {
		return content{}, backend.Mark(err, ErrSource)
	}
	defer f.Close()
	c := content{name: from.Name, size: f.size}
	sum := digest.New(c.size)
	like := u.k.alikeTo(from, c.size)
	counted := int64(0) // up to here the blocks were counted
	between := func(to int64) error {
		if like != nil {
			return u.known(ctx, &c, sum, like, counted, to, send)
		}
		u.p.meter.count(0, 0, to-counted)
		return nil
	}
	o := scanOptions{workers: u.p.r.opts.workers, leaves: true, to: c.size, skip: like.skip}
	err = scan(ctx, f, c.size, o, func(s *segment) error {
		if err := between(s.start); err != nil {
			return err
		}
		sum.Add(s.leaves)
		counted = min(s.start+int64(len(s.data)), c.size)
		return u.segment(ctx, &c, s, send)
	})
	if err == nil {
		err = between(c.size)
	}
	if err == nil {
		err = u.flush(ctx, send)
	}
	if ctx.Err() != nil {
		return c, err
	}
	c.digest = sum.Digest()
	switch {
	case err != nil:
	case from.Digest.IsZero():
		err = f.check()
	case from.Digest != c.digest:
		err = fmt.Errorf("%s has the digest %s instead of %s: %w", f.name, c.digest, from.Digest, sparse.ErrChanged)
	}
	return c, backend.Mark(err, ErrSource)
}

// segment adds each block of s to c, and to a pack if the repository lacks it. From
// the first block on that is lacking all wait in the queue, so that others can be
// asked about a pack at a time.
func (u *upload) segment(ctx context.Context, c *content, s *segment, send func(*building)) error {
	var reused, holes int64
	for i, id := range s.ids {
		at := s.start/blockSize + int64(i)
		n := min(blockSize, c.size-at*blockSize)
		if id == (blockID{}) {
			holes += n
			continue
		}
		where, ok := u.k.places[id]
		if ok && len(u.queue) == 0 {
			reused += n
			c.addBlock(at, where)
			continue
		}
		q := queued{c: c, id: id, at: at, size: n}
		if !ok {
			q.data = u.keep(s.data[i*blockSize : (i+1)*blockSize])
			u.fresh++
		}
		if u.queue = append(u.queue, q); u.fresh == packBlocks || len(u.queue) == maxQueue {
			if err := u.flush(ctx, send); err != nil {
				return err
			}
		}
	}
	u.p.meter.count(0, reused, holes)
	return nil
}

// keep copies a block: the segment that it lies in is read into again.
func (u *upload) keep(block []byte) []byte {
	if cap(u.chunk)-len(u.chunk) < len(block) {
		u.chunk = make([]byte, 0, frameBlocks*blockSize)
	}
	n := len(u.chunk)
	u.chunk = append(u.chunk, block...)
	return u.chunk[n:len(u.chunk):len(u.chunk)]
}

// flush decides on the blocks in the queue. When there is much to send it asks first
// what others are sending, and the blocks go as packs of their own.
func (u *upload) flush(ctx context.Context, send func(*building)) (err error) {
	if u.fresh > 0 && u.moved+u.fresh >= claimLeast {
		if u.claim, err = u.p.claims.window(ctx, u.unknown, u.renew(ctx)); err != nil {
			return err
		}
	}
	u.claims = 0
	var moved, reused int64
	for _, q := range u.queue {
		where, ok := u.k.places[q.id]
		if q.where != nil {
			where, ok = *q.where, true
		}
		if ok {
			reused += q.size
		} else {
			moved += q.size
			u.moved++
			where = u.add(q.id, q.data, send)
		}
		q.c.addBlock(q.at, where)
	}
	u.p.meter.count(moved, reused, 0)
	if u.claim != 0 && u.pack != nil {
		send(u.pack)
		u.pack = nil
	}
	u.p.claims.expect(ctx, u.claim, u.claims)
	u.queue, u.fresh, u.chunk, u.claim = u.queue[:0], 0, nil, 0
	return nil
}

// unknown are the blocks in the queue that are not known, each once.
func (u *upload) unknown() []blockID {
	var ids []blockID
	seen := map[blockID]bool{}
	for _, q := range u.queue {
		if _, ok := u.k.places[q.id]; !ok && q.where == nil && !seen[q.id] {
			seen[q.id] = true
			ids = append(ids, q.id)
		}
	}
	return ids
}

// renew makes known what others have published, and packs that they have sent.
func (u *upload) renew(ctx context.Context) func(published bool, packs []sentPack) error {
	return func(published bool, packs []sentPack) error {
		r := u.p.r
		if published {
			if err := r.sync(ctx); err != nil {
				return err
			}
			if err := r.findKnown(ctx, u.k, u.p.name, u.p.parent); err != nil {
				return err
			}
		}
		usable, err := r.usablePacks(ctx, packs, u.epoch)
		if err != nil {
			return err
		}
		for _, p := range packs {
			u.p.uploaded(p)
		}
		return r.addIndexes(ctx, u.k, usable)
	}
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
func (u *upload) add(id blockID, block []byte, send func(*building)) blockRef {
	if u.pack == nil {
		u.pack = &building{slot: len(u.k.packs), ref: &packRef{}}
		u.own = append(u.own, u.pack)
		u.k.packs = append(u.k.packs, packRef{})
	}
	b := u.pack
	where := blockRef{int32(b.slot), int32(len(b.ids))}
	u.k.places[id] = where
	b.ids = append(b.ids, id)
	if b.raw == nil {
		b.raw = make([]byte, 0, frameBlocks*blockSize)
	}
	if b.raw = append(b.raw, block...); len(b.raw) == frameBlocks*blockSize {
		u.compress(b)
	}
	if len(b.ids) == packBlocks {
		u.pack = nil
		send(b)
	}
	return where
}

// compress makes a frame of the blocks that are in none yet. What fits into one
// pack is always compressed well: most pushes are small.
func (u *upload) compress(b *building) {
	raw, f := b.raw, &frame{blocks: len(b.raw) / blockSize, done: make(chan struct{})}
	b.raw, b.frames = nil, append(b.frames, f)
	late := b != u.own[0]
	u.compressing.Go(func() error {
		enc := u.dense
		if late && u.sending.Load() == 0 {
			enc = u.quick
		}
		f.packed = enc.EncodeAll(raw, make([]byte, 0, len(raw)/2))
		close(f.done)
		return nil
	})
}

// send uploads one pack.
func (u *upload) send(ctx context.Context, b *building) error {
	file, err := b.compose(ctx)
	u.named.Done()
	if err != nil {
		return err
	}
	p := b.ref
	if p.blocks == packBlocks {
		u.p.r.files.Widen()
	}
	u.sending.Add(1)
	defer u.sending.Add(-1)
	note := sentPack{p.id, p.data, p.index, int64(p.blocks), u.epoch}
	u.p.journal.add(note) // before it is sent, so that no pack arrives without a note
	if err := backend.Write(ctx, u.p.r.files, p.path(), file); err != nil {
		return err
	}
	u.p.r.state.put(p.id, file[p.data:])
	u.p.uploaded(note)
	u.p.claims.arrived(ctx, b.claim, note)
	return nil
}

// compose names the pack and makes its file, when its frames are compressed.
func (b *building) compose(ctx context.Context) ([]byte, error) {
	x := packIndex{ids: b.ids}
	var parts [][]byte
	p := b.ref
	p.blocks = len(b.ids)
	for _, f := range b.frames {
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		x.frames = append(x.frames, frameRef{length: int64(len(f.packed)), blocks: f.blocks})
		parts = append(parts, f.packed)
		p.data += int64(len(f.packed))
	}
	index := x.encode()
	p.id, p.index = newFileID(index), int64(len(index))
	return slices.Concat(append(parts, index)...), nil
}
