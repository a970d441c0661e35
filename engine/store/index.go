package store

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/zeebo/blake3"
)

// index maps keys to outputs, for builds that find everything done: one file
// read in one go in place of one record for each step. It also knows the newest record of
// each label. Commits append to it.
// It is disposable: what it lacks is looked up in the records, and when part
// of it is damaged it is made again from them.
//
// An entry is, little-endian: the length of what follows the checksum (32
// bits), the checksum (CRC-32C, 32 bits), the key, and parts, each of which begins with
// its kind (8 bits): first the label, the first half of its hash (128 bits); then for each
// output, whose kind is that of the object, its digest, size (64 bits), the length of its
// name (16 bits), and its name. Of a key, and of a label, the last entry counts. The key is
// zero where what a label stands for does not fit in.
type index struct {
	path   string
	adding sync.Mutex // held before mu
	mu     sync.RWMutex
	data   []byte           // entries; what at and labels point into
	at     map[uint64]int32 // where in data the entry of a key begins, by some of the key; nil until loaded
	labels map[uint64]int32 // likewise for the newest entry of a label; nil until one is asked for

	file    fs.FileInfo // of the file that was read; nil for none
	read    int64       // bytes of it that are in data
	glanced time.Time   // when the file was looked at last
	glance  time.Duration
}

// inIndex is what of a key, or of a label's hash, tells the entries apart. Where it does
// not, one of them is not known, and looked up in its record.
func inIndex(key []byte) uint64 { return binary.LittleEndian.Uint64(key) }

// labelPart is the kind of the part for a label, and none of an object: a b9 that knows no
// such part looks the key up in its record.
const labelPart = 3

const (
	indexHead     = 8
	maxIndexEntry = 1 << 20
	maxIndex      = math.MaxInt32 // bytes

	// indexGlance is how often the index is looked at for what other processes did: a build
	// that asks for 10,000 labels does not look as often.
	indexGlance = 100 * time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newIndex(path string) *index { return &index{path: path, glance: indexGlance} }

// LookupOutputs is a fast Lookup that returns the outputs alone. They are
// there, and stay until the Store is closed. The result must not be changed.
func (s *Store) LookupOutputs(key Digest) ([]Output, bool) {
	if outputs, ok := s.indexed(key); ok {
		if ok, err := s.present(key, outputs); ok && err == nil {
			return outputs, true
		}
	}
	// Not indexed, or the outputs were collected and perhaps made again.
	return s.remember(s.lookup(key))
}

// Recorded returns the outputs that a key led to, whether or not they are
// still there: their digests are enough for the keys of what depends on them.
// [Store.Has] tells whether an object can be read; asking it also keeps the
// record from being collected for its age. The record itself may have been
// collected by another process since the index was read, which does no harm:
// what it said is still true. The result must not be changed.
func (s *Store) Recorded(key Digest) ([]Output, bool) {
	if outputs, ok := s.indexed(key); ok {
		return outputs, true
	}
	return s.remember(s.readRecord(key))
}

// remember adds to the index what a record says that was not in it.
func (s *Store) remember(r *Record, err error) ([]Output, bool) {
	if err != nil || r == nil {
		return nil, false
	}
	s.index.remember(r.Key, appendIndex(nil, r.Key, "", r.Outputs))
	return r.Outputs, true
}

func (s *Store) indexed(key Digest) ([]Output, bool) {
	x := s.index
	s.loadIndex()
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.get(key)
}

// loadIndex reads the index, or makes it, unless that was done.
func (s *Store) loadIndex() {
	x := s.index
	x.mu.RLock()
	loaded := x.at != nil
	x.mu.RUnlock()
	if loaded {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at == nil && !x.load() {
		s.rebuildIndex()
	}
}

// get returns what is known of a key. The caller holds mu.
func (x *index) get(key Digest) ([]Output, bool) {
	off, ok := x.at[inIndex(key[:])]
	if !ok || x.keyAt(off) != key {
		return nil, false
	}
	return decodeOutputs(x.body(off))
}

// keyAt is the key of the entry at off.
func (x *index) keyAt(off int32) Digest { return Digest(x.body(off)) }

// body returns the body of the entry at off, which load checked.
func (x *index) body(off int32) []byte {
	size := binary.LittleEndian.Uint32(x.data[off:])
	return x.data[off+indexHead:][:size]
}

// latest is the key of the newest entry of a label, zero for none.
func (x *index) latest(label string) (key Digest) {
	hash := blake3.Sum256([]byte(label))
	x.mu.Lock()
	defer x.mu.Unlock()
	x.catchUp()
	if x.labels == nil {
		x.labels = make(map[uint64]int32, len(x.at))
		for off := 0; off < len(x.data); off += indexHead + len(x.body(int32(off))) {
			x.addLabel(int32(off))
		}
	}
	if off, ok := x.labels[inIndex(hash[:])]; ok {
		if of, _ := labelOf(x.body(off)); of == half(hash) {
			key = x.keyAt(off)
		}
	}
	return key
}

// catchUp takes in what other processes have added to the file, or made of it, since it was
// read. The caller holds mu.
func (x *index) catchUp() {
	if x.at == nil || time.Since(x.glanced) < x.glance {
		return
	}
	x.glanced = time.Now()
	st, err := os.Stat(x.path)
	switch same := os.SameFile(st, x.file); {
	case err != nil, same && st.Size() == x.read:
	case !same || st.Size() < x.read:
		x.load()
	default:
		x.readOn()
	}
}

// readOn reads what the file has more. The caller holds mu.
func (x *index) readOn() {
	f, err := os.Open(x.path)
	if err != nil {
		return
	}
	defer f.Close()
	data, err := io.ReadAll(io.NewSectionReader(f, x.read, maxIndex))
	if err != nil || len(x.data)+len(data) > maxIndex {
		return
	}
	for len(data) > 0 {
		body, ok := indexBody(data)
		if !ok {
			return
		}
		size := indexHead + len(body)
		x.append(data[:size])
		data, x.read = data[size:], x.read+int64(size)
	}
}

// append adds an entry to what is known. The caller holds mu.
func (x *index) append(entry []byte) {
	off := int32(len(x.data))
	x.data = append(x.data, entry...)
	x.at[inIndex(x.body(off))] = off
	if x.labels != nil {
		x.addLabel(off)
	}
}

// addLabel makes the entry at off the newest of its label. The caller holds mu.
func (x *index) addLabel(off int32) {
	if hash, ok := labelOf(x.body(off)); ok {
		x.labels[inIndex(hash[:])] = off
	}
}

// labelOf is what an entry's body has of the label's hash.
func labelOf(body []byte) (hash halfDigest, ok bool) {
	if part := body[len(Digest{}):]; len(part) > len(hash) && part[0] == labelPart {
		return halfDigest(part[1:]), true
	}
	return hash, false
}

// leadTo returns the keys, in no order, that are known to have led to one of
// the digests.
func (x *index) leadTo(to map[halfDigest]struct{}) []Digest {
	x.mu.RLock()
	defer x.mu.RUnlock()
	leads := func(o Output) bool { _, ok := to[half(o.Object.Digest)]; return ok }
	var keys []Digest
	for _, off := range x.at {
		if outputs, _ := decodeOutputs(x.body(off)); slices.ContainsFunc(outputs, leads) {
			keys = append(keys, x.keyAt(off))
		}
	}
	return keys
}

// remember keeps an entry that appendIndex made, unless the index was not loaded
// yet: then the records have it.
func (x *index) remember(key Digest, entry []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.keep(key, entry)
}

// keep is remember for a caller that holds mu. It reports whether the entry is kept.
func (x *index) keep(key Digest, entry []byte) bool {
	delete(x.at, inIndex(key[:]))
	if x.at == nil || len(entry) == 0 || len(x.data)+len(entry) > maxIndex {
		return false
	}
	x.append(entry)
	return true
}

// forget drops what is known of keys.
func (x *index) forget(keys []Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range keys {
		if off, ok := x.at[inIndex(key[:])]; ok && x.keyAt(off) == key {
			delete(x.at, inIndex(key[:]))
		}
	}
}

// load reads the file and reports whether it is whole; else what was known stays. A missing
// one is not whole, for it may have been removed. The caller holds mu.
func (x *index) load() bool {
	if x.at == nil {
		x.at = map[uint64]int32{}
	}
	f, err := os.Open(x.path)
	if err != nil {
		return false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxIndex {
		return false
	}
	data := make([]byte, st.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return false
	}
	at, ok := scanIndex(data)
	if ok {
		x.data, x.at, x.labels, x.file, x.read = data, at, nil, st, st.Size()
	}
	return ok
}

// scanIndex finds the entries; ok is false when any of it is damaged.
func scanIndex(data []byte) (at map[uint64]int32, ok bool) {
	at = make(map[uint64]int32, len(data)/128)
	for off := 0; off < len(data); {
		body, ok := indexBody(data[off:])
		if !ok {
			return nil, false
		}
		end := off + indexHead + len(body)
		at[inIndex(body)] = int32(off)
		off = end
	}
	return at, true
}

// filterIndex returns the entries less those of the keys that are gone, and those that are
// neither the last of their key nor of their label; ok is false when data is damaged.
func filterIndex(data []byte, gone map[Digest]bool) (kept []byte, ok bool) {
	at, labels, offs := map[Digest]int{}, map[halfDigest]int{}, []int{}
	for off := 0; off < len(data); {
		body, ok := indexBody(data[off:])
		if !ok {
			return nil, false
		}
		if key := Digest(body); !gone[key] {
			at[key] = off
			if label, ok := labelOf(body); ok {
				labels[label] = off
			}
			offs = append(offs, off)
		}
		off += indexHead + len(body)
	}
	for _, off := range offs {
		body, _ := indexBody(data[off:])
		label, labelled := labelOf(body)
		if at[Digest(body)] == off || labelled && labels[label] == off {
			kept = append(kept, data[off:off+indexHead+len(body)]...)
		}
	}
	return kept, true
}

// indexBody returns the checked body of the entry at the start of data.
func indexBody(data []byte) ([]byte, bool) {
	if len(data) < indexHead {
		return nil, false
	}
	size := binary.LittleEndian.Uint32(data)
	if size < 32 || size > maxIndexEntry || int(size) > len(data)-indexHead {
		return nil, false
	}
	body := data[indexHead : indexHead+int(size)]
	return body, crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(data[4:])
}

// decodeOutputs reads the outputs of an entry's body.
func decodeOutputs(body []byte) ([]Output, bool) {
	if _, ok := labelOf(body); ok {
		body = body[1+len(halfDigest{}):]
	}
	outputs := make([]Output, 0, 1)
	for body = body[32:]; len(body) > 0; {
		const fixed = 1 + 32 + 8 + 2
		if len(body) < fixed {
			return nil, false
		}
		o := Object{Kind: Kind(body[0]), Digest: Digest(body[1:33]), Size: int64(binary.LittleEndian.Uint64(body[33:]))}
		n := int(binary.LittleEndian.Uint16(body[41:]))
		if o.Kind != File && o.Kind != Tree || o.Size < 0 || len(body) < fixed+n {
			return nil, false
		}
		outputs = append(outputs, Output{string(body[fixed : fixed+n]), o})
		body = body[fixed+n:]
	}
	return outputs, true
}

// appendIndex adds an entry to b. Without a label it is the newest of none. A key whose
// entry would be too large is looked up in its record, and so is its label: the entry says
// of the label alone that no key is known.
func appendIndex(b []byte, key Digest, label string, outputs []Output) []byte {
	start := len(b)
	b = append(b, make([]byte, indexHead)...)
	b = append(b, key[:]...)
	if label != "" {
		hash := half(blake3.Sum256([]byte(label)))
		b = append(append(b, labelPart), hash[:]...)
	}
	fits := true
	for _, o := range outputs {
		fits = fits && len(o.Name) <= math.MaxUint16
		b = append(append(b, byte(o.Object.Kind)), o.Object.Digest[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(o.Object.Size))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(o.Name)))
		b = append(b, o.Name...)
	}
	body := b[start+indexHead:]
	switch {
	case fits && len(body) <= maxIndexEntry:
	case label != "":
		return appendIndex(b[:start], Digest{}, label, nil)
	default:
		return b[:start]
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// add appends an entry, of a committed record or of one that is found for another label.
// Where there is no index none is begun, for it would lack the earlier records. One that
// can't be added to is made anew from the records by the next Store: it would lack this one,
// and a torn entry would hide those after it.
//
// What lies in the file right behind what was read is not read again. Meanwhile somebody
// may have read it, or another process have put another file in its place.
func (x *index) add(key Digest, label string, outputs []Output) {
	entry := appendIndex(nil, key, label, outputs)
	x.adding.Lock() // so that entries lie in the file in the order in which they are known
	defer x.adding.Unlock()
	file, end, err := appendFileOnce(x.path, entry)
	if err != nil {
		os.Remove(x.path)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	mine := err == nil && len(entry) > 0 && x.file != nil && os.SameFile(file, x.file)
	if mine && end <= x.read {
		return // it is known, and so is what others have added behind
	}
	if x.keep(key, entry) && mine && end-int64(len(entry)) == x.read {
		x.read = end
	}
}

// rebuildIndex makes the index from the records, those last that began last. The caller
// holds the index's mu. If it can't be written the next Store tries again.
func (s *Store) rebuildIndex() {
	var entries []indexEntry
	err := s.eachRecord(func(_ string, _ fs.FileInfo, r *Record, err error) error {
		if err == nil {
			entries = append(entries, indexEntry{r.Key, r.Label, r.Started.UnixNano(), r.Outputs})
		}
		return nil
	})
	data := encodeIndex(entries)
	if err != nil || len(data) > maxIndex {
		return
	}
	if at, ok := scanIndex(data); ok {
		s.index.data, s.index.at, s.index.labels = data, at, nil
	}
	_ = s.writeQuickly(s.index.path, data)
}

// indexEntry is what an entry is made of.
type indexEntry struct {
	key     Digest
	label   string
	started int64 // Unix time, nanoseconds
	outputs []Output
}

// encodeIndex is the content of an index with those entries, which it sorts.
func encodeIndex(entries []indexEntry) (data []byte) {
	slices.SortStableFunc(entries, func(a, b indexEntry) int { return cmp.Compare(a.started, b.started) })
	for _, e := range entries {
		data = appendIndex(data, e.key, e.label, e.outputs)
	}
	return data
}
