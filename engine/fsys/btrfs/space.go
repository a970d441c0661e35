package btrfs

import (
	"errors"
	"slices"
)

// span is a stretch of the device.
type span struct{ start, length int64 }

// chunk is a stretch of logical addresses, and where it lies on the device: once, or
// twice.
type chunk struct {
	kind    uint64
	logical int64
	length  int64
	stripes []int64
	used    int64    // bytes, from the beginning on
	sums    []uint32 // of data, a block each
}

// systemChunk is the length of the chunk in which the tree of chunks lies.
const systemChunk = 4 << 20

// firstLogical is where addresses begin, which is nobody's business but must not be 0.
const firstLogical = 1 << 20

// errNoRoom says that the content does not fit; it is told with a size that holds it.
var errNoRoom = errors.New("no room is left")

// layDevice leaves out what no chunk may have: the first MiB, and the superblocks' copies.
func (w *writer) layDevice() {
	at := int64(1 << 20)
	end := w.o.Size &^ (stripe - 1)
	for _, copy := range superCopies()[1:] {
		if copy < end {
			w.free = append(w.free, span{at, copy - at})
			at = copy + 1<<20
		}
	}
	if at < end {
		w.free = append(w.free, span{at, end - at})
	}
}

// takeDevice takes at most want bytes, at least least, of the device.
func (w *writer) takeDevice(want, least int64) (start, length int64) {
	for i := range w.free {
		s := &w.free[i]
		if s.length < least || s.length == 0 {
			continue
		}
		start, length = s.start, min(want, s.length)
		s.start, s.length = s.start+length, s.length-length
		return start, length
	}
	return 0, 0
}

// addChunk makes a chunk of at most want bytes, at least least, whose copies have one
// length.
func (w *writer) addChunk(kind uint64, want, least int64) (*chunk, error) {
	c := &chunk{kind: kind, logical: firstLogical}
	if n := len(w.chunks); n > 0 {
		c.logical = w.chunks[n-1].logical + w.chunks[n-1].length
	}
	copies := 1
	if kind&twice != 0 {
		copies, least = 2, want
	}
	before := slices.Clone(w.free)
	for range copies {
		start, length := w.takeDevice(want, least)
		if length == 0 {
			w.free = before
			return nil, errNoRoom
		}
		c.length, c.stripes = length, append(c.stripes, start)
	}
	w.chunks = append(w.chunks, c)
	return c, nil
}

// of lists the chunks of a kind.
func (w *writer) of(kind uint64) []*chunk {
	return slices.DeleteFunc(slices.Clone(w.chunks), func(c *chunk) bool { return c.kind&kind == 0 })
}

// dataRoom finds room for data: of at most want bytes what follows each other.
func (w *writer) dataRoom(want int64) (*chunk, int64, error) {
	list := w.of(forData)
	if len(list) == 0 || list[len(list)-1].used == list[len(list)-1].length {
		most := min(1<<30, max(8<<20, w.o.Size/10)&^(1<<20-1))
		c, err := w.addChunk(forData, most, 1<<20)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, c)
	}
	c := list[len(list)-1]
	return c, min(want, c.length-c.used), nil
}
