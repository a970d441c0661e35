package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

const (
	// coarsestGrain is the grain of the coarsest clock by which a file system
	// notes a change.
	coarsestGrain = 2 * time.Second
	// durableAfter is after what time a written file has surely reached the
	// disk, so that its times vouch for its content after a power loss, too.
	durableAfter = 2 * time.Minute
	// maxStatFile is the size at which the file is begun anew.
	maxStatFile = 64 << 20
	statTag     = "b9 stat 1 "
)

// statCache remembers the digests of host files by what stat says of them.
// It is one disposable file that every process appends to.
//
// An entry is, little-endian: the length of the path (16 bits), a checksum
// of what follows (CRC-32C, 32 bits), 64 bits each for device, inode, size,
// modification time, change time and the time of hashing, the digest, and
// the path.
type statCache struct {
	path    string
	write   func(path string, data []byte) error // replaces a file as a whole
	mu      sync.Mutex
	loaded  bool
	entries map[string]statEntry
	fresh   []byte // encoded entries that the file lacks
	rewrite bool   // the file must be replaced, not extended
}

type statEntry struct {
	key    statKey
	hashed int64 // Unix time, nanoseconds
	digest Digest
}

// statKey is what must be the same for a digest to be believed.
type statKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // Unix time, nanoseconds
}

func keyOf(st *unix.Stat_t) statKey {
	return statKey{st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// changed is when the file was last changed in any way.
func (k statKey) changed() int64 { return max(k.mtime, k.ctime) }

func newStatCache(path string, write func(string, []byte) error) *statCache {
	return &statCache{path: path, write: write}
}

// FileDigest returns the digest of the content of a regular file and its size.
// It does not read a file again whose device, inode, size, and times of
// modification and change are those of an earlier call, by any process. A file changed within [Options].Grain before it was
// hashed is not remembered.
func (s *Store) FileDigest(ctx context.Context, path string) (Digest, int64, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Digest{}, 0, err
	}
	key, err := statKeyOf(abs)
	if err != nil {
		return Digest{}, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return s.cachedDigest(ctx, abs, key, s.opts.Workers)
}

func statKeyOf(path string) (statKey, error) {
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Stat(path, &st) })
	return keyOf(&st), err
}

// TreeDigest returns the digest of the directory root as a source tree: relative paths, types, permissions, contents and the texts of
// symbolic links count, and nothing else. What skip reports true for is left
// out, a directory with all that is in it; rel has slashes. skip may be nil
// and is not asked about the root. Contents go through the cache of FileDigest.
//
// A symbolic link root is followed, others are not.
func (s *Store) TreeDigest(ctx context.Context, root string, skip func(rel string, dir bool) bool) (Digest, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return Digest{}, err
	}
	d, _, err := sourceTree(ctx, abs, skip, s.opts.Workers, func(ctx context.Context, n *node) (Digest, int64, error) {
		return s.cachedDigest(ctx, n.file, keyOf(&n.stat), 1)
	})
	return d, err
}

// Listed is a file of a source directory.
type Listed struct {
	Path    string // below the directory, with slashes
	Digest  Digest // of the content, or of the text of a symbolic link
	Size    int64  // bytes; 0 for a symbolic link
	Program bool
}

// List lists the files of a source directory as TreeDigest counts them, sorted by path;
// nothing of one with more files than that.
func (s *Store) List(ctx context.Context, root string, skip func(rel string, dir bool) bool, most int) ([]Listed, error) {
	_, m, err := sourceTree(ctx, root, skip, s.opts.Workers, func(ctx context.Context, n *node) (Digest, int64, error) {
		return s.cachedDigest(ctx, n.file, keyOf(&n.stat), 1)
	})
	if err != nil || len(m.Entries) > most {
		return nil, err
	}
	var list []Listed
	for _, e := range m.Entries {
		switch e.Type {
		case typeFile:
			list = append(list, Listed{e.Path, e.Digest, e.Size, e.Mode&0o100 != 0})
		case typeSymlink:
			list = append(list, Listed{Path: e.Path, Digest: digest.Sum([]byte(e.Target))})
		}
	}
	return list, nil
}

func (s *Store) cachedDigest(ctx context.Context, abs string, key statKey, workers int) (Digest, int64, error) {
	if d, ok := s.stats.get(abs, key); ok {
		return d, key.size, nil
	}
	now := time.Now().UnixNano()
	f, _, err := sparse.Open(abs)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	d, info, err := digest.File(ctx, f, workers)
	if err != nil {
		return Digest{}, 0, fmt.Errorf("hash %s: %w", abs, err)
	}
	// What was hashed counts, not what the name led to a moment earlier.
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return Digest{}, 0, fmt.Errorf("hash %s: %w", abs, err)
	}
	if key = keyOf(&after); key.changed() < now-int64(s.opts.Grain) {
		s.stats.put(abs, statEntry{key, now, d})
	}
	return d, info.Size(), nil
}

func (c *statCache) get(path string, key statKey) (Digest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	e, ok := c.entries[path]
	if !ok || e.key != key {
		return Digest{}, false
	}
	return e.digest, true
}

func (c *statCache) put(path string, e statEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load()
	c.entries[path] = e
	if len(path) <= maxPath {
		c.fresh = appendStat(c.fresh, path, e)
	}
}

// statHeader ties the file to the running kernel: a file hashed shortly after
// it was written, before a crash, may have come back with other content
// under the same times.
func statHeader() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte("unknown")
	}
	return statTag + strings.TrimSpace(string(boot)) + "\n"
}

// load reads the file once. The caller holds mu.
func (c *statCache) load() {
	if c.loaded {
		return
	}
	c.loaded = true
	data, _ := os.ReadFile(c.path) // no cache is an empty cache
	header := statHeader()
	head, rest, _ := bytes.Cut(data, []byte("\n"))
	sameBoot := string(head)+"\n" == header
	if !bytes.HasPrefix(head, []byte(statTag)) {
		rest = nil
	}
	var whole bool
	c.entries, whole = parseStats(rest, sameBoot)
	c.rewrite = !sameBoot || !whole || len(data) > maxStatFile || len(rest) > 1<<20 && 400*len(c.entries) < len(rest)
	if len(data) > maxStatFile {
		c.entries = map[string]statEntry{}
	}
}

const statFixed = 2 + 4 + 6*8 + 32

// parseStats returns the entries up to the first damaged one; whole is false
// when there is such.
func parseStats(data []byte, sameBoot bool) (entries map[string]statEntry, whole bool) {
	entries = make(map[string]statEntry, len(data)/(statFixed+64))
	text := string(data) // all paths are pieces of it
	for len(data) > 0 {
		if len(data) < statFixed {
			return entries, false
		}
		size := statFixed + int(binary.LittleEndian.Uint16(data))
		if len(data) < size || crc32.Checksum(data[6:size], castagnoli) != binary.LittleEndian.Uint32(data[2:]) {
			return entries, false
		}
		if e := decodeStat(data[6:]); sameBoot || e.hashed-e.key.changed() > int64(durableAfter) {
			entries[text[statFixed:size]] = e
		}
		data, text = data[size:], text[size:]
	}
	return entries, true
}

func decodeStat(b []byte) statEntry {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return statEntry{
		key:    statKey{u(0), u(1), int64(u(2)), int64(u(3)), int64(u(4))},
		hashed: int64(u(5)),
		digest: Digest(b[48:80]),
	}
}

func appendStat(b []byte, path string, e statEntry) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, 0, 0, 0, 0)
	k := e.key
	for _, v := range [...]uint64{k.dev, k.ino, uint64(k.size), uint64(k.mtime), uint64(k.ctime), uint64(e.hashed)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = append(append(b, e.digest[:]...), path...)
	binary.LittleEndian.PutUint32(b[start+2:], crc32.Checksum(b[start+6:], castagnoli))
	return b
}

// flush saves what was learned. A failure loses nothing but time.
func (c *statCache) flush() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fresh) == 0 && !(c.rewrite && len(c.entries) > 0) {
		return
	}
	if !c.rewrite {
		_, _, err := appendFileOnce(c.path, c.fresh)
		c.rewrite = err != nil
	}
	if c.rewrite {
		c.replace()
	}
	c.fresh, c.rewrite = nil, false
}

func (c *statCache) replace() {
	data := []byte(statHeader())
	for path, e := range c.entries {
		data = appendStat(data, path, e)
	}
	_ = c.write(c.path, data)
}
