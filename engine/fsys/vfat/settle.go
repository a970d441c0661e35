package vfat

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"time"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// Settle removes from the file system in f what tells when it was written to, and
// what was deleted in it: times that are not before since, to the two seconds that
// FAT counts in, become at; records, clusters and ends of clusters that are not in
// use become zeros, clusters holes of f.
func Settle(ctx context.Context, f *os.File, since, at time.Time) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	e, err := Edit(f, st.Size())
	if err != nil {
		return err
	}
	s := settler{ctx: ctx, e: e, since: since.Unix() &^ 1, seen: make(map[uint32]bool)}
	s.date, s.clock = dosTime(tree.FixedTime(at))
	if err := s.directory(e.root); err != nil {
		return err
	}
	if err := s.punch(f); err != nil {
		return err
	}
	if e.g.bits == 32 {
		return e.writeInfo()
	}
	return nil
}

type settler struct {
	ctx         context.Context
	e           *Editor
	since       int64
	date, clock uint16
	seen        map[uint32]bool // directories, by their first clusters
}

// directory settles the records of a directory, and what is in it.
func (s *settler) directory(o *Object) error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if s.seen[o.first()] {
		return volume.Damaged("the directory %s lies in two places", o.Name)
	}
	s.seen[o.first()] = true
	before, err := s.e.readDir(o)
	if err != nil {
		return err
	}
	d, err := s.e.load(o)
	if err != nil {
		return err
	}
	for b := d.data; len(b) >= 32 && b[0] != 0; b = b[32:] {
		switch {
		case b[0] == 0xe5:
			clear(b[1:32])
		case b[11]&0x3f != attrLong:
			s.record(b[:32])
		}
	}
	if !bytes.Equal(before, d.data) {
		if err := s.e.writeSlots(o, 0, len(d.data)/32); err != nil {
			return err
		}
	}
	for _, child := range d.order {
		if child.IsDir() {
			err = s.directory(child)
		} else {
			err = s.end(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// record clamps the three times of a record.
func (s *settler) record(b []byte) {
	le := binary.LittleEndian
	for _, t := range []struct{ clock, date int }{{14, 16}, {22, 24}} {
		if dosSeconds(le.Uint16(b[t.date:]), le.Uint16(b[t.clock:])) >= s.since {
			le.PutUint16(b[t.clock:], s.clock)
			le.PutUint16(b[t.date:], s.date)
			if t.clock == 14 {
				b[13] = 0 // its hundredths
			}
		}
	}
	const day = 24 * 60 * 60
	if dosSeconds(le.Uint16(b[18:]), 0) >= s.since/day*day {
		le.PutUint16(b[18:], s.date)
	}
}

// end clears what lies in the last cluster of a file behind its end.
func (s *settler) end(o *Object) error {
	size, cs := o.Size(), s.e.clusterSize()
	if size%cs == 0 {
		return nil
	}
	at, _, err := s.e.span(o, size, cs-size%cs)
	if err != nil {
		return err
	}
	return s.e.zero(at, cs-size%cs)
}

// punch makes holes of the free clusters.
func (s *settler) punch(f *os.File) error {
	end := uint32(s.e.g.clusters) + 2
	for c := uint32(2); c < end; c++ {
		from := c
		for c < end && s.e.entry(c) == 0 {
			c++
		}
		if c == from {
			continue
		}
		if err := context.Cause(s.ctx); err != nil {
			return err
		}
		if err := sparse.Zero(s.ctx, f, s.e.g.clusterAt(from), int64(c-from)*s.e.clusterSize()); err != nil {
			return err
		}
	}
	return nil
}
