package image

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"b9.build/b9/engine/internal/sparse"
)

// Spot says where the bytes of an image at some offset are kept.
type Spot struct {
	Kind   SpotKind
	Length int64 // bytes from that offset for which this holds; more than 0
	At     int64 // offset in the file: of that byte (plain) or of the packed unit
	Size   int   // bytes in the file at most (packed)
}

type SpotKind uint8

const (
	SpotHole   SpotKind = iota // not in this image: the image under it, or zero
	SpotZero                   // zero
	SpotPlain                  // the bytes as they are
	SpotPacked                 // one compressed unit
)

// Index is what a format with allocation tables must be able to do.
type Index interface {
	// locate finds the spot of off, which lies in the image.
	Locate(off int64) (Spot, error)
	// unpack fills dst with the unit that holds off.
	Unpack(dst []byte, off int64, s Spot) error
	// aligned reports whether units start at whole multiples of a unit in the
	// file, or at least as far apart as they are long, so that a number of a
	// unit's size names one.
	Aligned() bool
	// describe names the subformat, empty where the format has only one, and the
	// method of compressed units, empty where the format has no choice of them.
	Describe() (subformat, compress string)
}

// Source is the file that an image is read from.
type Source interface {
	io.ReaderAt
	io.Closer
}

// Mapped is an image whose units lie in a file where tables say.
type Mapped struct {
	Index
	File   Source
	End    int64 // size of file
	Length int64
	Unit   int64
	Under  Image // or nil

	mu       sync.Mutex
	lastOff  int64  // of the unit in last
	lastUnit []byte // the packed unit read last, so that small reads unpack it once
}

func (m *Mapped) Size() int64 { return m.Length }

func (m *Mapped) Close() error {
	err := m.File.Close()
	if m.Under != nil {
		if e := m.Under.Close(); err == nil {
			err = e
		}
	}
	return err
}

func (m *Mapped) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, m.Length)
	for done := 0; done < n; {
		s, err := m.Locate(off + int64(done))
		if err != nil {
			return done, err
		}
		part := p[done:min(int64(n), int64(done)+s.Length)]
		if err := m.fetch(part, off+int64(done), s); err != nil {
			return done, err
		}
		done += len(part)
	}
	return n, eof
}

// fetch fills p, which is not longer than the spot.
func (m *Mapped) fetch(p []byte, off int64, s Spot) error {
	switch s.Kind {
	case SpotPlain:
		return ReadSparse(m.File, p, s.At)
	case SpotPacked:
		return m.fetchPacked(p, off, s)
	case SpotHole:
		if m.Under != nil {
			return ReadSparse(m.Under, p, off)
		}
	}
	clear(p)
	return nil
}

// fetchPacked unpacks straight into p if it takes the whole unit.
func (m *Mapped) fetchPacked(p []byte, off int64, s Spot) error {
	if off%m.Unit == 0 && int64(len(p)) == m.Unit {
		return m.Unpack(p, off, s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	start := off / m.Unit * m.Unit
	if m.lastUnit == nil || m.lastOff != start {
		if m.lastUnit == nil {
			m.lastUnit = make([]byte, m.Unit)
		}
		m.lastOff = -1
		if err := m.Unpack(m.lastUnit, start, s); err != nil {
			return err
		}
		m.lastOff = start
	}
	copy(p, m.lastUnit[off-start:])
	return nil
}

func (m *Mapped) Extent(off int64) (Extent, error) {
	if off < 0 || off >= m.Length {
		return Extent{}, io.EOF
	}
	s, err := m.Locate(off)
	if err != nil {
		return Extent{}, err
	}
	e := Extent{Start: off, Length: min(s.Length, m.Length-off), State: stateOf(s.Kind)}
	if s.Kind == SpotHole && m.Under != nil && off < m.Under.Size() {
		below, err := m.Under.Extent(off)
		if err != nil {
			return Extent{}, err
		}
		return Extent{Start: off, Length: min(e.Length, below.Length), State: below.State}, nil
	}
	if m.Under == nil {
		m.extend(&e)
	}
	return e, nil
}

// extend joins e with the spots after it, as far as is worth it: the caller asks
// again for the rest.
func (m *Mapped) extend(e *Extent) {
	for range maxJoined {
		if e.End() >= m.Length || e.State == Data && e.Length >= maxDataExtent {
			return
		}
		s, err := m.Locate(e.End())
		if err != nil || stateOf(s.Kind) != e.State {
			return
		}
		e.Length = min(e.Length+s.Length, m.Length-e.Start)
	}
}

// MaxSpot in bytes bounds how many units locate joins.
const MaxSpot = 16 << 20

// maxJoined is how many spots Extent joins at most.
const maxJoined = 1024

// maxDataExtent in bytes bounds how far Extent looks ahead in data, so that
// looking and reading can go on at the same time.
const maxDataExtent = 64 << 20

func stateOf(k SpotKind) State {
	switch k {
	case SpotHole:
		return Hole
	case SpotZero:
		return Zero
	}
	return Data
}

// Tables keeps the Tables of an image that were read last, within a bound of
// memory. The Tables of a file of which nothing else is known may be anywhere.
type Tables struct {
	file io.ReaderAt
	end  int64 // size of file
	size int   // bytes a table
	room int   // Tables to keep

	mu    sync.Mutex
	held  map[int64][]byte
	order []int64 // offsets in held, oldest first
	empty []byte  // what is in Tables that lie in a hole of the file
	hole  Extent  // the hole found last
}

// tableMemory bounds the memory of one cache of tables, in bytes.
const tableMemory = 4 << 20

func NewTables(file io.ReaderAt, end int64, size int) *Tables {
	return &Tables{file: file, end: end, size: size, room: max(2, tableMemory/size), held: map[int64][]byte{}}
}

// At returns the table at offset off of the file. The caller must not change it.
func (t *Tables) At(off int64) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.held[off]; ok {
		return b, nil
	}
	if off < 0 || off > t.end-int64(t.size) {
		return nil, fmt.Errorf("corrupt: table at offset %d does not lie in the file of %d bytes", off, t.end)
	}
	if t.inHole(off) {
		return t.empty, nil
	}
	b := t.evict()
	if _, err := t.file.ReadAt(b, off); err != nil {
		return nil, err
	}
	t.held[off] = b
	t.order = append(t.order, off)
	return b, nil
}

// disk.blank reports whether a table that at returned is known to be all zero.
func (t *Tables) Blank(table []byte) bool {
	return len(t.empty) > 0 && &table[0] == &t.empty[0]
}

// inHole reports whether the table at off lies in a hole of the file, as most
// tables of a large empty disk do; they need not be read one by one.
func (t *Tables) inHole(off int64) bool {
	if off < t.hole.Start || off >= t.hole.End() {
		s, ok := t.file.(io.Seeker)
		if !ok {
			return false
		}
		data, err := sparse.Data(s, off, t.end)
		if err != nil {
			return false
		}
		t.hole = Extent{Start: off, Length: data - off, State: Hole}
	}
	if off+int64(t.size) > t.hole.End() {
		return false
	}
	if t.empty == nil {
		t.empty = make([]byte, t.size)
	}
	return true
}

// evict returns memory for one more table. Readers may still look at the
// evicted one, so its memory is not used again.
func (t *Tables) evict() []byte {
	if len(t.order) >= t.room {
		delete(t.held, t.order[0])
		t.order = append(t.order[:0], t.order[1:]...)
	}
	return make([]byte, t.size)
}

// Skip moves a spot n bytes ahead, within its cluster.
func Skip(s Spot, n int64) Spot {
	s.Length -= n
	if s.Kind == SpotPlain {
		s.At += n
	}
	return s
}

// Repeated reports whether a number other than 0 occurs twice among the entries,
// of which the bits in mask count. So few tables that claim to describe a vast
// disk are found before anyone goes through them.
func Repeated[T uint32 | uint64](entries []T, mask T) (T, bool) {
	last := T(0)
	ascending := true
	for _, e := range entries {
		if e &= mask; e != 0 {
			ascending = ascending && e > last
			last = e
		}
	}
	if ascending {
		return 0, false
	}
	sorted := make([]T, 0, len(entries))
	for _, e := range entries {
		if e &= mask; e != 0 {
			sorted = append(sorted, e)
		}
	}
	slices.Sort(sorted)
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i], true
		}
	}
	return 0, false
}
