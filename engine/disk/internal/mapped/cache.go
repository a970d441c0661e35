package mapped

import (
	"fmt"
	"sync"

	"b9.build/b9/engine/disk/image"
)

// Cache keeps the tables of a file that were read last, within a bound of
// memory. All have one size; where they lie in the file is foreign.
type Cache struct {
	file image.Image
	size int // bytes a table
	room int // tables to keep

	mu    sync.Mutex
	held  map[int64][]byte
	order []int64      // offsets in held, oldest first
	empty []byte       // what is in tables that lie in a hole of the file
	hole  image.Extent // the hole found last
}

// cacheMemory bounds the memory of one cache, in bytes.
const cacheMemory = 4 << 20

// NewCache makes a cache for tables of size bytes in a file of end bytes.
func NewCache(file image.Image, size int) *Cache {
	return &Cache{file: file, size: size, room: max(2, cacheMemory/size), held: map[int64][]byte{}}
}

// At returns the table at offset off of the file. The caller must not change it.
func (c *Cache) At(off int64) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b, ok := c.held[off]; ok {
		return b, nil
	}
	if end := c.file.Size(); off < 0 || off > end-int64(c.size) {
		return nil, fmt.Errorf("corrupt: table at offset %d does not lie in the file of %d bytes", off, end)
	}
	if c.inHole(off) {
		return c.empty, nil
	}
	b := c.evict()
	if _, err := c.file.ReadAt(b, off); err != nil {
		return nil, err
	}
	c.held[off] = b
	c.order = append(c.order, off)
	return b, nil
}

// Blank reports whether a table that At returned is known to be all zero.
func (c *Cache) Blank(table []byte) bool {
	return len(c.empty) > 0 && &table[0] == &c.empty[0]
}

// inHole reports whether the table at off lies in a hole of the file, as most
// tables of a large empty disk do; they need not be read one by one.
func (c *Cache) inHole(off int64) bool {
	if off < c.hole.Start || off >= c.hole.End() {
		e, err := c.file.Extent(off)
		if err != nil || e.State == image.Data {
			return false
		}
		c.hole = e
	}
	if off+int64(c.size) > c.hole.End() {
		return false
	}
	if c.empty == nil {
		c.empty = make([]byte, c.size)
	}
	return true
}

// evict returns memory for one more table. Readers may still look at the
// evicted one, so its memory is not used again.
func (c *Cache) evict() []byte {
	if len(c.order) >= c.room {
		delete(c.held, c.order[0])
		c.order = append(c.order[:0], c.order[1:]...)
	}
	return make([]byte, c.size)
}
