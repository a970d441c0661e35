package ext4

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"b9.build/b9/engine/fsys/internal/compare"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// Settle removes from the file system in f what tells when, where and how often
// it was mounted, of which inodes lie in written. See fsys.Settle.
func Settle(ctx context.Context, f *os.File, written compare.Runs, since, at time.Time) error {
	l, size, err := whole(f)
	if err != nil {
		return err
	}
	if l.incompat&incompatRecover != 0 {
		return errors.New("the file system is not clean: its journal must be replayed first")
	}
	s := settler{ctx: ctx, f: f, l: l, size: size, written: written, since: since, at: tree.FixedTime(at)}
	for _, step := range []func() error{s.inodes, s.journal, s.super} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

type settler struct {
	ctx     context.Context
	f       *os.File
	l       *layout
	size    int64
	written compare.Runs
	since   time.Time
	at      int64
}

// inodes clamps the times of all inodes that are in use.
func (s *settler) inodes() error {
	for g := range s.l.groups {
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		d, err := s.l.readGroup(s.f, g)
		if err != nil {
			return err
		}
		if d.flags()&groupInodeUninit != 0 && s.l.sums() {
			continue
		}
		if err := s.group(d); err != nil {
			return fmt.Errorf("inodes of group %d: %w", g, err)
		}
	}
	return nil
}

// group clamps the times of the inodes of a group that lie where it was written to.
func (s *settler) group(d *group) error {
	l := s.l
	start := int64(d.inodeTable()) * int64(l.blockSize)
	parts := s.written.Within(compare.Run{From: start, To: start + int64(l.inodesPerGroup)*int64(l.inodeSize)})
	if len(parts) == 0 {
		return nil
	}
	bitmap := make([]byte, l.blockSize)
	if _, err := s.f.ReadAt(bitmap, int64(d.inodeBitmap())*int64(l.blockSize)); err != nil {
		return err
	}
	used, size := topBit(bitmap, l.inodesPerGroup), int64(l.inodeSize)
	for _, p := range parts {
		first, end := uint32((p.From-start)/size), uint32((p.To-start+size-1)/size)
		if err := s.some(d, bitmap, first, min(end, used)); err != nil {
			return err
		}
	}
	return nil
}

// some clamps the times of the inodes [first, end) of a group that are in use.
func (s *settler) some(d *group, bitmap []byte, first, end uint32) error {
	l := s.l
	if first >= end {
		return nil
	}
	table := make([]byte, int(end-first)*l.inodeSize)
	start := int64(d.inodeTable())*int64(l.blockSize) + int64(first)*int64(l.inodeSize)
	if _, err := s.f.ReadAt(table, start); err != nil {
		return err
	}
	from, to := len(table), 0 // what has changed
	for i := nextBit(bitmap, first, end, true); i < end; i = nextBit(bitmap, i+1, end, true) {
		off := int(i-first) * l.inodeSize
		raw := table[off:][:l.inodeSize]
		if l.clampTimes(raw, s.since, s.at) {
			l.sumInode(raw, d.num*l.inodesPerGroup+i+1)
			from, to = min(from, off), off+l.inodeSize
		}
	}
	if from >= to {
		return nil
	}
	_, err := s.f.WriteAt(table[from:to], start+int64(from))
	return err
}

// clampTimes replaces the times of an inode that was changed since then, as far as they
// are not before since as the coarsest program keeps it, and reports whether there
// were any. When it was changed nobody can set: an inode of a file system that was made
// a moment before keeps its times.
func (l *layout) clampTimes(raw []byte, since time.Time, at int64) bool {
	le := binary.LittleEndian
	extra := 0 // length of the fields behind the first 128 bytes
	if len(raw) >= 128+4 {
		extra = int(le.Uint16(raw[0x80:]))
	}
	if extra > len(raw)-128 {
		extra = 0 // damage that e2fsck tells of
	}
	read := func(sec, more int) (t time.Time, wide bool) {
		s, nsec := int64(int32(le.Uint32(raw[sec:]))), int64(0)
		if wide = extra >= more+4-0x80; wide {
			m := le.Uint32(raw[more:])
			s, nsec = s+int64(m&3)<<32, int64(m>>2)
		}
		return time.Unix(s, nsec), wide
	}
	const ctime, ctimeMore = 0xc, 0x84
	if t, wide := read(ctime, ctimeMore); wide && t.Before(since) || t.Before(since.Truncate(time.Second)) {
		return false
	}
	coarse := since.Truncate(tree.Coarsest)
	changed := false
	for _, t := range []struct{ sec, more int }{{0x8, 0x8c}, {ctime, ctimeMore}, {0x10, 0x88}, {0x90, 0x94}} {
		if t.sec >= 0x80 && extra < t.sec+4-0x80 {
			continue
		}
		was, wide := read(t.sec, t.more)
		if was.Before(coarse) {
			continue
		}
		changed = true
		le.PutUint32(raw[t.sec:], uint32(at))
		if wide {
			le.PutUint32(raw[t.more:], uint32((at-int64(int32(at)))>>32)&3)
		}
	}
	return changed
}

// journal makes the journal one that was never used: its superblock as mke2fs
// writes it, and nothing behind that. No transaction waits in it.
func (s *settler) journal() error {
	runs, err := s.l.journalRuns(io.NewSectionReader(s.f, 0, s.size))
	if err != nil {
		return err
	}
	for i, run := range runs {
		if i == 0 {
			if err := s.journalSuper(run.From); err != nil {
				return err
			}
			run.From += int64(s.l.blockSize)
		}
		if err := sparse.Zero(s.ctx, s.f, run.From, run.To-run.From); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// journalRuns are where the journal lies in the image, in its own order: the
// first one begins with its superblock. There are none without a journal, or with one
// on another device.
func (l *layout) journalRuns(r *io.SectionReader) (runs []compare.Run, err error) {
	num := binary.LittleEndian.Uint32(l.sb[0xe0:])
	if l.compat&compatJournal == 0 || num == 0 {
		return nil, nil
	}
	v := &reader{r: volume.NewPages(r), l: l}
	n, err := v.inode(uint64(num))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	x, bs := n.Private.(*inode), int64(l.blockSize)
	for b, end := uint64(0), uint64(n.Size/bs); b < end; {
		at, count, err := v.run(x, b)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		count = min(count, end-b)
		switch {
		case at != 0:
			runs = append(runs, compare.Run{From: int64(at) * bs, To: int64(at+count) * bs})
		case b == 0:
			return nil, volume.Damaged("the journal has no superblock")
		}
		b += count
	}
	return runs, nil
}

// journalSuper writes the state of a journal without transactions. The kernel
// sets the features that it wants when it mounts.
func (s *settler) journalSuper(at int64) error {
	be, b := binary.BigEndian, make([]byte, 1024)
	if _, err := s.f.ReadAt(b, at); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if be.Uint32(b) != journalMagic || be.Uint32(b[4:]) != 4 && be.Uint32(b[4:]) != 3 {
		return volume.Damaged("the journal has no superblock")
	}
	if be.Uint32(b[28:]) != 0 {
		return errors.New("the file system is not clean: its journal must be replayed first")
	}
	be.PutUint32(b[24:], 1) // the next transaction
	if be.Uint32(b[4:]) == 4 {
		const fastCommit = 0x20 // its area is part of the layout
		be.PutUint32(b[36:], 0)
		be.PutUint32(b[40:], be.Uint32(b[40:])&fastCommit)
		b[80] = 0                // type of checksums
		be.PutUint32(b[88:], 0)  // head
		be.PutUint32(b[252:], 0) // checksum
	}
	_, err := s.f.WriteAt(b, at)
	return err
}

// super writes the superblock of a file system that was never mounted.
func (s *settler) super() error {
	le, sb := binary.LittleEndian, s.l.sb
	forgetMounts(sb)
	le.PutUint32(sb[0x30:], uint32(s.at)) // written
	sb[0x274] = byte(s.at >> 32)
	s.l.sealSuper()
	_, err := s.f.WriteAt(sb, superAt)
	return err
}

// forgetMounts clears what mounts write into a superblock.
func forgetMounts(sb []byte) {
	clear(sb[0x2c:0x34])   // mounted, written
	clear(sb[0x34:0x36])   // times mounted
	clear(sb[0x88:0xc8])   // where
	clear(sb[0x178:0x180]) // KiB ever written
	clear(sb[0x274:0x276]) // the high bytes of the two times
}

// Traces returns where a mount writes although nothing in the file system changes:
// the superblock and the journal. ok is false where the superblocks of a and b tell of
// more than mounts, and where a journal waits to be replayed.
func Traces(a, b *io.SectionReader) (traces compare.Runs, ok bool, err error) {
	var layouts [2]*layout
	for i, r := range []*io.SectionReader{a, b} {
		l, err := readLayout(r)
		if err != nil || l.incompat&incompatRecover != 0 {
			return nil, false, err
		}
		layouts[i] = l
	}
	runs, err := layouts[0].journalRuns(a)
	if err != nil {
		return nil, false, err
	}
	for _, l := range layouts {
		forgetMounts(l.sb)
		clear(l.sb[0x3fc:]) // checksum
	}
	runs = append(runs, compare.Run{From: superAt, To: superAt + superSize})
	return compare.Sorted(runs...), bytes.Equal(layouts[0].sb, layouts[1].sb), nil
}
