package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
)

var update = flag.Bool("update", false, "rewrite the golden files of testdata")

// The tests of this file hold every format in docs/store.md to a file in
// testdata/golden: what is encoded must be its bytes, and reading them must
// give what was encoded. A format that has to change gets another number.

// golden compares got with a golden file, and returns what the file has.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(-update accepts it)", path, shown(got), shown(want))
	}
	return want
}

// shown is text as it is, and other bytes in hexadecimal.
func shown(data []byte) string {
	if bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0xfffd }) {
		return hex.Dump(data)
	}
	return string(data)
}

func goldenDigest(n byte) (d Digest) {
	for i := range d {
		d[i] = n + byte(i)
	}
	return d
}

func goldenRecord() *Record {
	return &Record{
		Key: goldenDigest(0x10), Label: "//web:root in /src/ws", Kind: "resize/1",
		Parts: []Part{{"b9", "b9 cache 1"}, {"Script[0]", "echo \"<ü>\"\n"}},
		Outputs: []Output{
			{"", Object{File, goldenDigest(0x20), 1 << 40}},
			{"/srv/www", Object{Tree, goldenDigest(0x40), 0}},
		},
		Log:      &Object{File, goldenDigest(0x60), 7},
		Started:  time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.UTC),
		Duration: 1500 * time.Millisecond,
	}
}

func TestGoldenRecord(t *testing.T) {
	want := goldenRecord()
	got, err := EncodeRecord(want)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeRecord(want.Key, golden(t, "record", got))
	if err != nil || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, err)
	}
}

func TestGoldenIndex(t *testing.T) {
	r := goldenRecord()
	none := goldenDigest(0x80)
	for name, label := range map[string]string{"index": r.Label, "index-unlabelled": ""} { // that of a b9 before this one
		data := golden(t, name, appendIndex(appendIndex(nil, r.Key, label, r.Outputs), none, "", nil))
		x := newIndex(filepath.Join(t.TempDir(), "index"))
		if err := os.WriteFile(x.path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if !x.load() {
			t.Fatal("the index is taken for damaged")
		}
		if outputs, ok := x.get(r.Key); !ok || !reflect.DeepEqual(outputs, r.Outputs) {
			t.Errorf("read back %+v, %v", outputs, ok)
		}
		if outputs, ok := x.get(none); !ok || len(outputs) != 0 {
			t.Errorf("read back %+v, %v", outputs, ok)
		}
		if got := x.latest(r.Label); got.IsZero() != (label == "") || label != "" && got != r.Key {
			t.Errorf("%s: the newest record of the label is %s", name, got)
		}
	}
}

func goldenManifest(full bool) *manifest {
	m := &manifest{Full: full, Entries: []entry{
		{Path: ".", Type: typeDir, Mode: 0o755},
		{Path: "a b\\ü\n", Type: typeFile, Mode: 0o4755, Size: 5, Digest: goldenDigest(1)},
		{Path: "dir", Type: typeDir, Mode: 0o1777},
		{Path: "dir/link", Type: typeSymlink, Mode: 0o777, Target: "../a b"},
		{Path: "fifo", Type: typeFIFO, Mode: 0o600},
		{Path: "null", Type: typeChar, Mode: 0o666, Major: 1, Minor: 3},
		{Path: "sda", Type: typeBlock, Mode: 0o660, Major: 8},
		{Path: "socket", Type: typeSocket, Mode: 0o600},
	}}
	if full {
		for i := range m.Entries {
			e := &m.Entries[i]
			e.UID, e.GID, e.MTime = 33, uint32(i), -1+int64(i)*1_000_000_001
		}
		m.Entries[1].Xattrs = []xattr{{"security.capability", "\x01\x00\x00\x02"}, {"user.x", ""}}
		m.Entries = append(m.Entries, entry{Path: "z", Type: typeHardLink, Target: "a b\\ü\n"})
	}
	return m
}

func TestGoldenManifest(t *testing.T) {
	for name, full := range map[string]bool{"tree-full": true, "tree-source": false} {
		want := goldenManifest(full)
		data := golden(t, name, want.Encode())
		back, err := decodeManifest(data)
		if err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%s: read back %+v, %v", name, back, err)
		}
		if d := want.Digest(); d != Sum(data) {
			t.Errorf("%s: the digest %s is not that of the encoding", name, d)
		}
	}
}

// goldenTree makes a directory whose source tree is the same everywhere.
func goldenTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "sub"), 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "sub"), 0o700),
		os.WriteFile(filepath.Join(dir, "b"), []byte("content of b\n"), 0o644), os.Chmod(filepath.Join(dir, "b"), 0o644),
		os.WriteFile(filepath.Join(dir, "sub", "run"), []byte("#!/bin/sh\n"), 0o755), os.Chmod(filepath.Join(dir, "sub", "run"), 0o755),
		os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600), os.Chmod(filepath.Join(dir, "empty"), 0o600),
		os.Symlink("sub/run", filepath.Join(dir, "a")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func goldenStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestGoldenBundle(t *testing.T) {
	s := goldenStore(t)
	want, err := s.Import(t.Context(), goldenTree(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle")
	if err := s.Bundle(t.Context(), want.Digest, path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data := golden(t, "bundle", got)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	back, err := goldenStore(t).AdoptBundle(t.Context(), path)
	if err != nil || back != want {
		t.Errorf("read back %v, %v, want %v", back, err, want)
	}
}

func TestGoldenLeaves(t *testing.T) {
	table := digest.NewTable(5*digest.BlockSize + 7)
	table.Add([]digest.Leaf{{Index: 0, Sum: goldenDigest(0x10)}, {Index: 4, Sum: goldenDigest(0x20)}, {Index: 5, Sum: goldenDigest(0x30)}})
	back, err := digest.ParseTable(golden(t, "leaves", table.Text()), table.Digest())
	if err != nil || !reflect.DeepEqual(back, table) {
		t.Errorf("read back %v, %v", back, err)
	}
	changed := []digest.Leaf{{Index: 0}, {Index: 2, Sum: goldenDigest(0x40)}}
	root, size, got, err := parseDiff(golden(t, "leaves-diff", encodeDiff(goldenDigest(0x50), 1<<40, changed)))
	if err != nil || root != goldenDigest(0x50) || size != 1<<40 || !slices.Equal(got, changed) {
		t.Errorf("read back %v, %d, %v, %v", root, size, got, err)
	}
}

func TestGoldenResults(t *testing.T) {
	s := goldenStore(t)
	a, b := Object{File, goldenDigest(1), 0}, Object{Tree, goldenDigest(2), 0}
	const workspace = "/" // which exists everywhere, so that its results count
	err := s.NameResults(workspace, map[string][]Object{"//:b": {a}, "//a \"x\":ü": {a, b}, "//:none": nil})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(s.Dir(), "results"))
	if err != nil || len(entries) != 1 || entries[0].Name() != Sum([]byte(workspace)).Hex() {
		t.Fatalf("the directory has %v, %v", entries, err)
	}
	path := filepath.Join(s.Dir(), "results", entries[0].Name())
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, golden(t, "results", got), 0o600); err != nil {
		t.Fatal(err)
	}
	objs, gone, err := s.roots()
	if err != nil || len(objs) != 3 || len(gone) > 0 {
		t.Errorf("read back %v, %v, %v", objs, gone, err)
	}
	for _, want := range []Object{a, b} {
		if !strings.Contains(fmt.Sprint(objs), want.String()) {
			t.Errorf("%v is not among %v", want, objs)
		}
	}
}

func TestGoldenNote(t *testing.T) {
	s := goldenStore(t)
	key, text := goldenDigest(3), "a note\x00\xff"
	if err := s.WriteNote(key, []byte(text)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), "notes", key.Hex())
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, golden(t, "note", got), 0o600); err != nil {
		t.Fatal(err)
	}
	if back, ok := s.ReadNote(key); !ok || string(back) != text {
		t.Errorf("read back %q, %v", back, ok)
	}
}

func TestGoldenStat(t *testing.T) {
	first := statEntry{key: statKey{0x0801, 12345, 1 << 40, 1_700_000_000_000_000_001, 1_700_000_000_000_000_002}, hashed: 1_700_000_100_000_000_003, digest: goldenDigest(4)}
	second := statEntry{key: statKey{1, 2, 0, -1, 4}, hashed: 1 << 62, digest: goldenDigest(5)}
	const boot = "00000000-1111-2222-3333-444444444444"
	data := golden(t, "stat", appendStat(appendStat([]byte(statTag+boot+"\n"), "/src/a b", first), "/ü", second))
	_, rest, _ := bytes.Cut(data, []byte("\n"))
	want := map[string]statEntry{"/src/a b": first, "/ü": second}
	if back, whole := parseStats(rest, true); !whole || !reflect.DeepEqual(back, want) {
		t.Errorf("read back %+v, %v", back, whole)
	}
	is, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || statHeader() != statTag+string(is) {
		t.Errorf("the file begins with %q on a system booted as %q, %v", statHeader(), is, err)
	}
}

// TestGoldenChecks holds what is remembered of an object's state.
func TestGoldenChecks(t *testing.T) {
	d, want := goldenDigest(0x30), proof{ino: 7, size: 1 << 40, ctime: 1_700_000_000_000_000_001, hashed: 1_700_000_000_000_000_002}
	data := golden(t, "checks", appendCheck(nil, d, want))
	if got, e, ok := decodeCheck(data); !ok || got != d || e != want {
		t.Errorf("read back %v %+v %v", got, e, ok)
	}
	data[40] ^= 1
	if _, _, ok := decodeCheck(data); ok {
		t.Error("an entry that is damaged is believed")
	}
}

// TestGoldenSuspects holds the list of objects that were found damaged.
func TestGoldenSuspects(t *testing.T) {
	d, other := goldenDigest(0x30), goldenDigest(0x50)
	data := golden(t, "suspects", appendSuspect(appendSuspect(appendSuspect(nil, d, 100, 200), other, 0, 1_700_000_000_000_000_001), d, 300, 400))
	got := parseSuspects(append([]byte("cut off 1 2\n"), data...))
	want := Suspects{d: {{100, 200}, {300, 400}}, other: {{0, 1_700_000_000_000_000_001}}}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("read back %v, want %v", got, want)
	}
}

// TestGoldenNames holds the names that labels have as files.
func TestGoldenNames(t *testing.T) {
	var b bytes.Buffer
	for _, name := range []string{
		"//examples/web.star:step (image)", "//:a", "//", "@b9//lib:x", "", "x", ".hidden", "//.hidden:x", "=x", "//=x", "//a:ü/~+{}", "a\nb%\xff",
		"//a:b in /src/work space", "//" + strings.Repeat("long/", 60),
	} {
		file := escapeName(name, 200)
		fmt.Fprintf(&b, "%q %q\n", name, file)
		if back := unescapeName(file); back != name && len(file) < 200 {
			t.Errorf("%q is read back as %q", name, back)
		}
	}
	golden(t, "names", b.Bytes())
}

// TestGoldenDigests holds the digests of files, with holes and without, and
// of a tree.
func TestGoldenDigests(t *testing.T) {
	var b bytes.Buffer
	for _, f := range []struct {
		size int64
		data map[int64]string
	}{
		{0, nil},
		{1, map[int64]string{0: "x"}},
		{1, nil}, // a zero byte
		{5, map[int64]string{0: "hello"}},
		{64 << 10, map[int64]string{0: strings.Repeat("b9", 32<<10)}},
		{64<<10 + 1, map[int64]string{0: strings.Repeat("b9", 32<<10), 64 << 10: "!"}},
		{1 << 20, nil},
		{1<<20 + 7, map[int64]string{3 << 16: "block 3", 5<<16 - 1: "blocks 4 and 5"}},
		{16 << 20, map[int64]string{0: "first", 4<<20 + 100: "of the second segment", 16<<20 - 4: "last"}},
	} {
		content := make([]byte, f.size)
		path := filepath.Join(t.TempDir(), "file")
		file, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Truncate(f.size); err != nil {
			t.Fatal(err)
		}
		for off, text := range f.data {
			copy(content[off:], text)
			if _, err := file.WriteAt([]byte(text), off); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		sparse, size, err := digest.Path(t.Context(), path, 0)
		if err != nil || size != f.size || sparse != definition(content) {
			t.Errorf("%d bytes with holes: %s, %d bytes, %v", f.size, sparse, size, err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if full, _, err := digest.Path(t.Context(), path, 0); err != nil || full != sparse {
			t.Errorf("%d bytes without holes: %s, %v, and %s with", f.size, full, err, sparse)
		}
		fmt.Fprintf(&b, "file of %d bytes, written to at %d places: %s\n", f.size, len(f.data), sparse)
	}
	tree, _, err := hashTree(t.Context(), goldenTree(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "tree: %s\nbytes: %s\n", tree, Sum([]byte("bytes")))
	golden(t, "digests", b.Bytes())
}

// TestGoldenLayout holds the names and modes of everything that a store has
// in its directory once it has one of each.
func TestGoldenLayout(t *testing.T) {
	s := goldenStore(t)
	object, err := s.Import(t.Context(), filepath.Join(goldenTree(t), "b"))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := s.Import(t.Context(), goldenTree(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.Recorded(goldenDigest(0)); ok { // makes the index
		t.Fatal("an empty store has a record")
	}
	r := goldenRecord()
	r.Outputs, r.Log = []Output{{"", object}, {"t", tree}}, nil
	failed, err := s.Scratch("//:failed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := failed.Keep("//:failed (image) in /src"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Commit(r), s.NameResult("/", "//:b", []Object{object}), s.WriteNote(goldenDigest(3), []byte("x"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.stats.put("/file", statEntry{}) // as FileDigest does with a file that did not change lately
	live, err := s.Scratch("//web:root (resize)")
	if err != nil {
		t.Fatal(err)
	}
	s.stats.flush()
	golden(t, "layout", layoutOf(t, s, filepath.Base(live.Dir())))
	if err := live.Close(); err != nil {
		t.Fatal(err)
	}
	if back, err := s.Latest(r.Label); err != nil || back == nil || back.Key != r.Key {
		t.Errorf("the latest record of the label is %+v, %v", back, err)
	}
}

// layoutOf lists the store's directory: type and permissions, size where the
// format says it, and name. The name of the scratch directory live is given
// without its random end; the store's own is left out.
func layoutOf(t *testing.T, s *Store, live string) []byte {
	t.Helper()
	var b bytes.Buffer
	err := filepath.WalkDir(s.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.Dir(), path)
		if err != nil || rel == "." {
			return err
		}
		if filepath.Dir(rel) == "scratch" && filepath.Base(rel) != live {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := strings.Replace(rel, live, live[:max(0, len(live)-12)]+"RANDOM", 1)
		fmt.Fprintf(&b, "%s %s\n", info.Mode(), name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	version, err := os.ReadFile(filepath.Join(s.Dir(), "VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "VERSION holds %q\n", version)
	return b.Bytes()
}

// TestGoldenLocks holds what processes of different versions have to agree
// on: which byte stands for a key, and what shows that a store is open.
func TestGoldenLocks(t *testing.T) {
	s := goldenStore(t)
	key := Digest{0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0xc1, 0xff}
	unlock, err := s.LockKey(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	f, err := os.OpenFile(filepath.Join(s.Dir(), "locks", "keys"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	held := unix.Flock_t{Type: unix.F_WRLCK} // anywhere in the file
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &held); err != nil {
		t.Fatal(err)
	}
	// The first 62 bits of the key, little-endian.
	if held.Type != unix.F_WRLCK || held.Start != 0x0123456789abcdef || held.Len != 1 {
		t.Errorf("the lock on the key is %+v", held)
	}
	lease, err := os.OpenFile(filepath.Join(s.Dir(), "leases", "0"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Close()
	if err := unix.Flock(int(lease.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("the lease of an open store is free: %v", err)
	}
	if err := unix.Flock(int(lease.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		t.Errorf("the lease of an open store can't be shared: %v", err)
	}
}

// definition is the comment of package digest, word by word.
func definition(content []byte) Digest {
	sum := binary.LittleEndian.AppendUint64([]byte("b9 file 1\n"), uint64(len(content)))
	for i := 0; i*65536 < len(content); i++ {
		block := content[i*65536 : min(len(content), (i+1)*65536)]
		if strings.Trim(string(block), "\x00") == "" {
			continue
		}
		h := blake3.Sum256(block)
		sum = append(binary.LittleEndian.AppendUint64(sum, uint64(i)), h[:]...)
	}
	return blake3.Sum256(sum)
}
