package store

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
)

// checks remember of each object when its content was last held against its
// digest, and what stat said of it then: a write to the object since, by whoever
// may write there, changed at least the time of change, which nobody can set. An
// object with another state, or without an entry, is hashed before it is used.
//
// They are disposable: a file for each value of a digest's first four bits, which
// every process appends to. An entry is, little-endian: the digest, inode, size, the
// time of change and that of hashing (64 bits each, times in nanoseconds), and a
// checksum of all that (CRC-32C, 32 bits). The last entry of an object counts.
type checks struct {
	dir    string
	write  func(path string, data []byte) error // replaces a file as a whole
	shards [checkShards]checkShard
}

// checkShards is the number of files: a build with nothing to do reads them all.
const checkShards = 16

func shardOf(d Digest) byte { return d[0] >> 4 }

// checkShard is what is known of one file. It keeps the entries as they lie there, for a
// build of thousands of results asks for each once.
type checkShard struct {
	mu   sync.Mutex
	size int64          // bytes of the file that were read; 0 before
	data []byte         // entries
	last map[uint64]int // where in data the last entry of an object is, by some of its digest
}

// inShard is what of a digest tells objects of a file apart. Where it does not, one of
// them is not known, and hashed.
func inShard(d Digest) uint64 { return binary.LittleEndian.Uint64(d[8:]) }

// proof is what is known of an object.
type proof struct {
	ino    uint64
	size   int64 // bytes
	ctime  int64 // Unix time, nanoseconds
	hashed int64 // when the content was last hashed, likewise
}

const checkSize = 32 + 4*8 + 4

func proofOf(st *unix.Stat_t, hashed int64) proof {
	return proof{st.Ino, st.Size, st.Ctim.Nano(), hashed}
}

// describes reports whether stat says the same now.
func (c proof) describes(st *unix.Stat_t) bool {
	return c.ino == st.Ino && c.size == st.Size && c.ctime == st.Ctim.Nano()
}

func (c *checks) path(shard byte) string {
	return filepath.Join(c.dir, Digest{shard << 4}.Hex()[:1])
}

// get returns what is known of an object; with again also what other processes have
// written since the entries were read.
func (c *checks) get(d Digest, again bool) (proof, bool) {
	s := &c.shards[shardOf(d)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || again {
		s.read(c.path(shardOf(d)))
	}
	at, ok := s.last[inShard(d)]
	if !ok {
		return proof{}, false
	}
	of, e, _ := decodeCheck(s.data[at:])
	return e, of == d
}

// read reads what the shard's file has got since it was last read. The caller holds mu.
func (s *checkShard) read(path string) {
	data, from := tail(path, s.size)
	data = data[:len(data)/checkSize*checkSize]
	if s.last == nil {
		s.last = make(map[uint64]int, len(data)/checkSize)
	}
	s.add(data)
	s.size = from + int64(len(data))
}

// tail reads a file from an offset on, or all of one that was written anew and is shorter
// now. None is an empty one.
func tail(path string, from int64) ([]byte, int64) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || st.Size() < from {
		from = 0
	}
	data, _ := io.ReadAll(io.NewSectionReader(f, from, math.MaxInt64-from))
	return data, from
}

// add adds entries. Those with a wrong checksum say nothing. The caller holds mu.
func (s *checkShard) add(entries []byte) {
	from := len(s.data)
	if from == 0 {
		s.data = slices.Clip(entries) // the whole file, as a rule, which nobody else keeps
	} else {
		s.data = append(s.data, entries...)
	}
	for at := from; at < len(s.data); at += checkSize {
		if d, _, ok := decodeCheck(s.data[at:]); ok {
			s.last[inShard(d)] = at
		}
	}
}

// put notes the state of objects. What can't be written is not known to
// other processes, which then hash the object.
func (c *checks) put(found map[Digest]proof) {
	var text [checkShards][]byte
	for d, e := range found {
		shard := shardOf(d)
		text[shard] = appendCheck(text[shard], d, e)
		s := &c.shards[shard]
		s.mu.Lock()
		if s.last == nil {
			s.read(c.path(shard))
		}
		s.add(text[shard][len(text[shard])-checkSize:])
		s.mu.Unlock()
	}
	for shard, entries := range text {
		if len(entries) > 0 {
			c.append(c.path(byte(shard)), entries)
		}
	}
}

// append adds entries to a file. One that ends within an entry, since a write was
// cut short, begins anew: entries must lie at multiples of their size.
func (c *checks) append(path string, entries []byte) {
	f, err := newfile.Open(path, os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size()%checkSize == 0 {
		if n, err := f.Write(entries); err == nil || n == 0 {
			return
		}
	}
	_ = os.Remove(path)
}

// tidy writes the files anew with the entries of the objects that keep reports, where
// that makes them much smaller.
func (c *checks) tidy(keep func(Digest) bool) {
	for shard := range c.shards {
		s, path := &c.shards[shard], c.path(byte(shard))
		s.mu.Lock()
		s.read(path)
		var text []byte
		for key, at := range s.last {
			if d, e, _ := decodeCheck(s.data[at:]); keep(d) {
				text = appendCheck(text, d, e)
			} else {
				delete(s.last, key)
			}
		}
		if s.size > int64(2*len(text))+4096 && c.write(path, text) == nil {
			s.size = int64(len(text))
		}
		s.mu.Unlock()
	}
}

func appendCheck(b []byte, d Digest, e proof) []byte {
	start := len(b)
	b = append(b, d[:]...)
	for _, v := range [...]uint64{e.ino, uint64(e.size), uint64(e.ctime), uint64(e.hashed)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func decodeCheck(b []byte) (d Digest, e proof, ok bool) {
	copy(d[:], b)
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[len(d)+8*i:]) }
	e = proof{u(0), int64(u(1)), int64(u(2)), int64(u(3))}
	sum := crc32.Checksum(b[:checkSize-4], castagnoli)
	return d, e, sum == binary.LittleEndian.Uint32(b[checkSize-4:]) && !bytes.Equal(d[:], make([]byte, len(d)))
}

// checked notes that the content of the object is its digest's, as of the given time
// (Unix time, nanoseconds); 0 stands for the moment before.
func (s *Store) checked(kind string, d Digest, at int64) {
	if at == 0 {
		at = time.Now().UnixNano()
	}
	var st unix.Stat_t
	if s.lstat(kind, d, &st) == nil {
		s.checks.put(map[Digest]proof{d: proofOf(&st, at)})
	}
}

// renewed notes that the store itself has changed the time of an object that it had
// found unchanged a moment before.
func (s *Store) renewed(kind string, d Digest) {
	var st unix.Stat_t
	if e, ok := s.checks.get(d, false); ok && s.lstat(kind, d, &st) == nil {
		s.checks.put(map[Digest]proof{d: proofOf(&st, e.hashed)})
	}
}
