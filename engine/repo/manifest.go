package repo

import (
	"bytes"
	"encoding/binary"
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
// Numbers are varints; a pack's block is told from where the last run of the
// same pack ended, so that most runs take four or five bytes.
func (m *manifest) encode() []byte {
	var b []byte
	b = binary.AppendUvarint(b, uint64(len(m.packs)))
	for _, p := range m.packs {
		b = append(append(b, p.id.sum[:]...), p.id.nonce[:]...)
		b = binary.AppendUvarint(b, uint64(p.data))
		b = binary.AppendUvarint(b, uint64(p.index))
		b = binary.AppendUvarint(b, uint64(p.blocks))
	}
	b = appendBytes(b, m.record)
	b = binary.AppendUvarint(b, uint64(len(m.objects)))
	for i := range m.objects {
		b = m.objects[i].append(b, len(m.packs))
	}
	return newEncoder(zstd.SpeedBetterCompression).EncodeAll(b, []byte(manifestMagic))
}

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func (c *content) append(b []byte, packs int) []byte {
	b = appendBytes(b, []byte(c.name))
	b = append(b, c.digest[:]...)
	b = binary.AppendUvarint(b, uint64(c.size))
	b = binary.AppendUvarint(b, uint64(len(c.runs)))
	next := make([]int, packs)
	var at int64
	for _, r := range c.runs {
		b = binary.AppendUvarint(b, uint64(r.at-at))
		b = binary.AppendUvarint(b, uint64(r.count))
		b = binary.AppendUvarint(b, uint64(r.pack))
		b = binary.AppendVarint(b, int64(r.block-next[r.pack]))
		at, next[r.pack] = r.at+int64(r.count), r.block+r.count
	}
	return b
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
	d := &decoder{b: b}
	m := &manifest{}
	for n := d.count(maxPacks); n > 0 && d.err == nil; n-- {
		m.packs = append(m.packs, d.pack())
	}
	m.record = bytes.Clone(d.bytes(d.count(maxRecord)))
	next, left := make([]int, len(m.packs)), maxRuns
	for n := d.count(maxObjects); n > 0 && d.err == nil; n-- {
		c := d.content(m.packs, next, left)
		left -= len(c.runs)
		m.objects = append(m.objects, c)
	}
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes follow its end", len(d.b))
	}
	if d.err != nil {
		return nil, d.err
	}
	return m, nil
}

func (d *decoder) pack() (p packRef) {
	copy(p.id.sum[:], d.bytes(len(p.id.sum)))
	copy(p.id.nonce[:], d.bytes(len(p.id.nonce)))
	p.data = int64(d.count(packBlocks * maxFrame))
	p.index = int64(d.count(packBlocks * 32))
	p.blocks = d.count(packBlocks)
	return p
}

// content reads one file with at most so many runs. next has a zero for each
// pack, before and afterwards.
func (d *decoder) content(packs []packRef, next []int, most int) (c content) {
	c.name = string(d.bytes(d.count(1 << 10)))
	copy(c.digest[:], d.bytes(len(c.digest)))
	c.size = int64(d.count(maxSize))
	n := d.count(min(most, len(d.b)/4))
	if n > 0 {
		c.runs = make([]run, 0, n)
	}
	var at int64
	for ; n > 0 && d.err == nil; n-- {
		r := run{at: at + int64(d.count(maxSize)), count: d.count(math.MaxInt32), pack: d.count(max(len(packs)-1, 0))}
		step, n := binary.Varint(d.b)
		if n <= 0 || len(packs) == 0 || step > packBlocks || step < -packBlocks {
			d.fail()
			return c
		}
		d.b = d.b[n:]
		r.block = next[r.pack] + int(step)
		at, next[r.pack] = r.at+int64(r.count), r.block+r.count
		if r.count < 1 || r.block < 0 || next[r.pack] > packs[r.pack].blocks || at > blocksIn(c.size) {
			d.fail()
			return c
		}
		c.runs = append(c.runs, r)
	}
	for _, r := range c.runs {
		next[r.pack] = 0
	}
	return c
}
