package disk

import (
	"fmt"
	"io"
	"slices"
	"sync"

	"b9/engine/internal/sparse"
)

// spot says where the bytes of an image at some offset are kept.
type spot struct {
	kind   spotKind
	length int64 // bytes from that offset for which this holds; more than 0
	at     int64 // offset in the file: of that byte (plain) or of the packed unit
	size   int   // bytes in the file at most (packed)
}

type spotKind uint8

const (
	spotHole   spotKind = iota // not in this image: the image under it, or zero
	spotZero                   // zero
	spotPlain                  // the bytes as they are
	spotPacked                 // one compressed unit
)

// index is what a format with allocation tables must be able to do.
type index interface {
	// locate finds the spot of off, which lies in the image.
	locate(off int64) (spot, error)
	// unpack fills dst with the unit that holds off.
	unpack(dst []byte, off int64, s spot) error
	// aligned reports whether units start at whole multiples of a unit in the
	// file, or at least as far apart as they are long, so that a number of a
	// unit's size names one.
	aligned() bool
	// describe names the subformat, empty where the format has only one, and the
	// method of compressed units, empty where the format has no choice of them.
	describe() (subformat, compress string)
}

// source is the file that an image is read from.
type source interface {
	io.ReaderAt
	io.Closer
}

// mapped is an image whose units lie in a file where tables say.
type mapped struct {
	index
	file  source
	end   int64 // size of file
	size  int64
	unit  int64
	under Image // or nil

	mu       sync.Mutex
	lastOff  int64  // of the unit in last
	lastUnit []byte // the packed unit read last, so that small reads unpack it once
}

func (m *mapped) Size() int64 { return m.size }

func (m *mapped) Close() error {
	err := m.file.Close()
	if m.under != nil {
		if e := m.under.Close(); err == nil {
			err = e
		}
	}
	return err
}

func (m *mapped) ReadAt(p []byte, off int64) (int, error) {
	n, eof := clip(len(p), off, m.size)
	for done := 0; done < n; {
		s, err := m.locate(off + int64(done))
		if err != nil {
			return done, err
		}
		part := p[done:min(int64(n), int64(done)+s.length)]
		if err := m.fetch(part, off+int64(done), s); err != nil {
			return done, err
		}
		done += len(part)
	}
	return n, eof
}

// fetch fills p, which is not longer than the spot.
func (m *mapped) fetch(p []byte, off int64, s spot) error {
	switch s.kind {
	case spotPlain:
		return readSparse(m.file, p, s.at)
	case spotPacked:
		return m.fetchPacked(p, off, s)
	case spotHole:
		if m.under != nil {
			return readSparse(m.under, p, off)
		}
	}
	clear(p)
	return nil
}

// fetchPacked unpacks straight into p if it takes the whole unit.
func (m *mapped) fetchPacked(p []byte, off int64, s spot) error {
	if off%m.unit == 0 && int64(len(p)) == m.unit {
		return m.unpack(p, off, s)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	start := off / m.unit * m.unit
	if m.lastUnit == nil || m.lastOff != start {
		if m.lastUnit == nil {
			m.lastUnit = make([]byte, m.unit)
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

func (m *mapped) Extent(off int64) (Extent, error) {
	if off < 0 || off >= m.size {
		return Extent{}, io.EOF
	}
	s, err := m.locate(off)
	if err != nil {
		return Extent{}, err
	}
	e := Extent{Start: off, Length: min(s.length, m.size-off), State: stateOf(s.kind)}
	if s.kind == spotHole && m.under != nil && off < m.under.Size() {
		below, err := m.under.Extent(off)
		if err != nil {
			return Extent{}, err
		}
		return Extent{Start: off, Length: min(e.Length, below.Length), State: below.State}, nil
	}
	if m.under == nil {
		m.extend(&e)
	}
	return e, nil
}

// extend joins e with the spots after it, as far as is worth it: the caller asks
// again for the rest.
func (m *mapped) extend(e *Extent) {
	for range maxJoined {
		if e.End() >= m.size || e.State == Data && e.Length >= maxDataExtent {
			return
		}
		s, err := m.locate(e.End())
		if err != nil || stateOf(s.kind) != e.State {
			return
		}
		e.Length = min(e.Length+s.length, m.size-e.Start)
	}
}

// maxSpot in bytes bounds how many units locate joins.
const maxSpot = 16 << 20

// maxJoined is how many spots Extent joins at most.
const maxJoined = 1024

// maxDataExtent in bytes bounds how far Extent looks ahead in data, so that
// looking and reading can go on at the same time.
const maxDataExtent = 64 << 20

func stateOf(k spotKind) State {
	switch k {
	case spotHole:
		return Hole
	case spotZero:
		return Zero
	}
	return Data
}

// tables keeps the tables of an image that were read last, within a bound of
// memory. The tables of a file of which nothing else is known may be anywhere.
type tables struct {
	file io.ReaderAt
	end  int64 // size of file
	size int   // bytes a table
	room int   // tables to keep

	mu    sync.Mutex
	held  map[int64][]byte
	order []int64 // offsets in held, oldest first
	empty []byte  // what is in tables that lie in a hole of the file
	hole  Extent  // the hole found last
}

// tableMemory bounds the memory of one cache of tables, in bytes.
const tableMemory = 4 << 20

func newTables(file io.ReaderAt, end int64, size int) *tables {
	return &tables{file: file, end: end, size: size, room: max(2, tableMemory/size), held: map[int64][]byte{}}
}

// at returns the table at offset off of the file. The caller must not change it.
func (t *tables) at(off int64) ([]byte, error) {
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

// blank reports whether a table that at returned is known to be all zero.
func (t *tables) blank(table []byte) bool {
	return len(t.empty) > 0 && &table[0] == &t.empty[0]
}

// inHole reports whether the table at off lies in a hole of the file, as most
// tables of a large empty disk do; they need not be read one by one.
func (t *tables) inHole(off int64) bool {
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
func (t *tables) evict() []byte {
	if len(t.order) >= t.room {
		delete(t.held, t.order[0])
		t.order = append(t.order[:0], t.order[1:]...)
	}
	return make([]byte, t.size)
}

// skip moves a spot n bytes ahead, within its cluster.
func skip(s spot, n int64) spot {
	s.length -= n
	if s.kind == spotPlain {
		s.at += n
	}
	return s
}

// repeated reports whether a number other than 0 occurs twice among the entries,
// of which the bits in mask count. So few tables that claim to describe a vast
// disk are found before anyone goes through them.
func repeated[T uint32 | uint64](entries []T, mask T) (T, bool) {
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
