package repo

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"
)

const (
	manifestMagic = "b9manifest1\n"
	// maxManifest bounds a manifest, decompressed, and maxStored as a file.
	maxManifest = 32 << 20
	maxStored   = 16 << 20
	// maxRuns bounds the runs of all its contents together, and maxPacks the
	// packs: 2 TiB that are filled.
	maxRuns    = 1 << 21
	maxPacks   = 1 << 16
	maxRecord  = 1 << 20
	maxObjects = 1 << 16
	// maxSize bounds an image: half of what ext4 holds in a file.
	maxSize = 1<<43 - blockSize
)

// manifest says what contents are made of: those of one version or one step.
type manifest struct {
	record  []byte // a step's
	packs   []packRef
	objects []content
}

// content is one file.
type content struct {
	name   string
	digest Digest
	size   int64
	runs   []run // in the file's order, not overlapping; between them is nothing but zeros
}

// run is a stretch of blocks that lie side by side in a pack, too.
type run struct {
	at    int64 // block of the file
	count int
	pack  int // among the manifest's packs
	block int // of the pack
}

// data returns the number of bytes in blocks that are not zeros.
func (c *content) data() (n int64) {
	for _, r := range c.runs {
		n += min(int64(r.count)*blockSize, c.size-r.at*blockSize)
	}
	return n
}

// encode returns the manifest as it is stored: the magic, and one zstd frame.
func (m *manifest) encode() []byte {
	c := &coder{}
	m.code(c)
	return newEncoder(zstd.SpeedBetterCompression).EncodeAll(c.b, []byte(manifestMagic))
}

// code describes a manifest. Numbers are varints.
func (m *manifest) code(c *coder) {
	list(c, &m.packs, maxPacks, func(p *packRef) {
		c.bytes(p.id[:])
		number(c, &p.data, packBlocks*maxFrame)
		number(c, &p.index, packBlocks*32)
		number(c, &p.blocks, packBlocks)
	})
	m.record = c.text(m.record, maxRecord)
	next, left := make([]int, len(m.packs)), maxRuns
	list(c, &m.objects, maxObjects, func(o *content) {
		o.code(c, m.packs, next, left)
		left -= len(o.runs)
	})
}

// code describes one file with at most so many runs. A pack's block is told from
// where the last run of the same pack ended, so that most runs take four or five
// bytes. next has a zero for each pack, before and afterwards.
func (o *content) code(c *coder, packs []packRef, next []int, most int) {
	o.name = string(c.text([]byte(o.name), 1<<10))
	c.bytes(o.digest[:])
	number(c, &o.size, maxSize)
	var at int64
	list(c, &o.runs, most, func(r *run) {
		gap := r.at - at
		number(c, &gap, maxSize)
		number(c, &r.count, math.MaxInt32)
		number(c, &r.pack, maxPacks)
		if !c.check(r.pack < len(packs)) {
			return
		}
		step := r.block - next[r.pack]
		c.signed(&step, packBlocks)
		r.at, r.block = at+gap, next[r.pack]+step
		at, next[r.pack] = r.at+int64(r.count), r.block+r.count
		c.check(r.count > 0 && r.block >= 0 && next[r.pack] <= packs[r.pack].blocks && at <= blocksIn(o.size))
	})
	for _, r := range o.runs {
		if c.err == nil {
			next[r.pack] = 0
		}
	}
}

// check refuses what decodeManifest would refuse.
func (m *manifest) check() error {
	runs := 0
	for _, c := range m.objects {
		runs += len(c.runs)
	}
	if runs > maxRuns || len(m.packs) > maxPacks {
		return fmt.Errorf("it would be in %d pieces from %d packs, and %d and %d are the most: it is too large or too scattered", runs, len(m.packs), maxRuns, maxPacks)
	}
	return nil
}

// decodeManifest reads a manifest. Everything in it is within its bounds
// afterwards: a run lies in its file and in its pack.
func decodeManifest(stored []byte) (*manifest, error) {
	packed, ok := bytes.CutPrefix(stored, []byte(manifestMagic))
	if !ok {
		return nil, errors.New("does not begin as a manifest does")
	}
	dec := newDecoder(maxManifest)
	defer dec.Close()
	b, err := dec.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	c, m := &coder{b: b, reading: true}, &manifest{}
	m.code(c)
	if c.err == nil && len(c.b) > 0 {
		c.err = fmt.Errorf("%d bytes follow its end", len(c.b))
	}
	if c.err != nil {
		return nil, c.err
	}
	return m, nil
}
