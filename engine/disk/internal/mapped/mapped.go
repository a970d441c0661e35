// Package mapped reads images whose units (clusters, grains, blocks) lie in a
// file where tables say.
//
// It hides how reads are cut at units, how packed units are unpacked once for
// many small reads, how neighbouring units become one extent, and how tables are
// cached. It knows no format: a format says how one entry of its tables is
// decoded. Tables are foreign bytes, so nothing here trusts them: each entry is
// checked when it is used, and memory is bounded whatever they claim.
//
//   - [Image] is the image; a [Spot] is where some of its bytes are kept
//   - [Tree] finds spots through a directory of tables (qcow2, vmdk)
//   - [Blocks] finds them through one flat table (vdi, vhd, vhdx)
//   - [Cache] holds the tables that were read last
//   - [Read], [ReadHeader]: the structures of a file
package mapped

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/internal/blob"
)

// Spot says where the bytes of an image from some offset on are kept.
type Spot struct {
	Kind   Kind
	Length int64 // bytes from that offset for which this holds; more than 0
	At     int64 // offset in the file: of that byte (Plain) or of the packed unit
	Size   int   // bytes in the file at most (Packed)
}

// Kind is how the bytes of a spot are kept.
type Kind uint8

// The kinds of a spot.
const (
	Hole   Kind = iota // not in this image: the image under it, or zero
	Zero               // zero
	Plain              // the bytes as they are
	Packed             // one compressed unit
)

// state is what a kind is to the reader of an image.
func (k Kind) state() image.State {
	return [...]image.State{Hole: image.Hole, Zero: image.Zero, Plain: image.Data, Packed: image.Data}[k]
}

// maxSpot in bytes bounds how many units are joined to one spot.
const maxSpot = 16 << 20

// run returns the spot of the byte that is in bytes behind the start of unit i,
// joined with the units after it, up to unit n, that continue it. The function
// entry returns the spot of a whole unit.
func run(i, n, in int64, entry func(i int64) (Spot, error)) (Spot, error) {
	s, err := entry(i)
	if err != nil {
		return Spot{}, err
	}
	s.Length -= in
	if s.Kind == Packed {
		return s, nil
	}
	if s.Kind == Plain {
		s.At += in
	}
	for i++; i < n && (s.Kind != Plain || s.Length < maxSpot); i++ {
		t, err := entry(i)
		if err != nil || t.Kind != s.Kind || s.Kind == Plain && t.At != s.At+s.Length {
			break
		}
		s.Length += t.Length
	}
	return s, nil
}

// Image is an image whose units lie in a file where tables say. It owns the file
// and the image under it.
type Image struct {
	// Locate returns the spot of off, which lies in the image.
	Locate func(off int64) (Spot, error)
	// Unpack fills dst with the unit that holds off, whose packed form src begins
	// with. Where it is nil Locate returns no packed spots.
	Unpack func(dst, src []byte, off int64, s Spot) error
	// Verify, unless nil, checks what else there is than units and their tables.
	Verify func(context.Context, *image.Report) error

	File      image.Image // the content of the file
	Length    int64       // virtual size in bytes
	Unit      int64       // bytes of a cluster, grain or block
	Under     image.Image // or nil
	Subformat string      // empty where the format has only one
	Compress  string      // method of packed units; empty where there is no choice
	Split     bool        // a unit may have several spots

	buffers  sync.Pool // of *[]byte for packed units
	mu       sync.Mutex
	lastOff  int64  // of the unit in last
	lastUnit []byte // the packed unit read last, so that small reads unpack it once
}

// Size returns the virtual size in bytes.
func (m *Image) Size() int64 { return m.Length }

// Close closes the file and the image under this one.
func (m *Image) Close() error {
	err := m.File.Close()
	if m.Under != nil {
		err = errors.Join(err, m.Under.Close())
	}
	return err
}

// ReadAt implements io.ReaderAt.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	n, eof := blob.Clip(len(p), off, m.Length)
	for done := 0; done < n; {
		s, err := m.Locate(off + int64(done))
		if err != nil {
			return done, err
		}
		part := p[done:min(int64(n), int64(done)+s.Length)]
		if err := m.read(part, off+int64(done), s); err != nil {
			return done, err
		}
		done += len(part)
	}
	return n, eof
}

// read fills p, which is not longer than the spot.
func (m *Image) read(p []byte, off int64, s Spot) error {
	switch s.Kind {
	case Plain:
		return image.ReadPadded(m.File, p, s.At)
	case Packed:
		return m.readPacked(p, off, s)
	case Hole:
		if m.Under != nil {
			return image.ReadPadded(m.Under, p, off)
		}
	}
	clear(p)
	return nil
}

// readPacked unpacks straight into p if it takes the whole unit.
func (m *Image) readPacked(p []byte, off int64, s Spot) error {
	if off%m.Unit == 0 && int64(len(p)) == m.Unit {
		return m.unpack(p, off, s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	start := off / m.Unit * m.Unit
	if m.lastUnit == nil || m.lastOff != start {
		if m.lastUnit == nil {
			m.lastUnit = make([]byte, m.Unit)
		}
		m.lastOff = -1
		if err := m.unpack(m.lastUnit, start, s); err != nil {
			return err
		}
		m.lastOff = start
	}
	copy(p, m.lastUnit[off-start:])
	return nil
}

// unpack fills dst with the packed unit that holds off.
func (m *Image) unpack(dst []byte, off int64, s Spot) error {
	buf, _ := m.buffers.Get().(*[]byte)
	if buf == nil || cap(*buf) < s.Size {
		b := make([]byte, max(int64(s.Size), m.Unit+512))
		buf = &b
	}
	defer m.buffers.Put(buf)
	src := (*buf)[:s.Size]
	if err := image.ReadPadded(m.File, src, s.At); err != nil {
		return err
	}
	return m.Unpack(dst, src, off, s)
}

// Extent implements image.Image.
func (m *Image) Extent(off int64) (image.Extent, error) {
	if off < 0 || off >= m.Length {
		return image.Extent{}, io.EOF
	}
	s, err := m.Locate(off)
	if err != nil {
		return image.Extent{}, err
	}
	e := image.Extent{Start: off, Length: min(s.Length, m.Length-off), State: s.Kind.state()}
	if s.Kind == Hole && m.Under != nil && off < m.Under.Size() {
		below, err := m.Under.Extent(off)
		if err != nil {
			return image.Extent{}, err
		}
		return image.Extent{Start: off, Length: min(e.Length, below.Length), State: below.State}, nil
	}
	if m.Under == nil {
		m.extend(&e)
	}
	return e, nil
}

const (
	// maxJoined is how many spots Extent joins at most.
	maxJoined = 1024
	// maxDataExtent in bytes bounds how far Extent looks ahead in data, so that
	// looking and reading can go on at the same time.
	maxDataExtent = 64 << 20
)

// extend joins e with the spots after it, as far as is worth it: the caller asks
// again for the rest.
func (m *Image) extend(e *image.Extent) {
	for range maxJoined {
		if e.End() >= m.Length || e.State == image.Data && e.Length >= maxDataExtent {
			return
		}
		s, err := m.Locate(e.End())
		if err != nil || s.Kind.state() != e.State {
			return
		}
		e.Length = min(e.Length+s.Length, m.Length-e.Start)
	}
}

// Read decodes v from f at off: a pointer to a structure of fixed size, or a
// slice of such.
func Read(f io.ReaderAt, off int64, order binary.ByteOrder, v any) error {
	return binary.Read(io.NewSectionReader(f, off, int64(binary.Size(v))), order, v)
}

// ReadHeader does what Read does with the start of f.
func ReadHeader(f io.ReaderAt, order binary.ByteOrder, v any) error {
	err := Read(f, 0, order, v)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the file ends in the header of %d bytes", binary.Size(v))
	}
	return err
}
