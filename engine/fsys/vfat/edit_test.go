package vfat_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
)

// kinds of file systems to change.
func kinds() map[string]vfat.Options {
	return map[string]vfat.Options{
		"fat12":   {Size: 256 << 10},
		"fat16":   {Size: 16 << 20, Label: "BOOT"},
		"fat32":   {Size: 40 << 20, Bits: 32},
		"4kfat16": {Size: 100 << 20, Sector: 4096, Bits: 16},
	}
}

// model is what a file system should hold: the content of files, nil for directories.
type model struct {
	t     *testing.T
	r     *rand.Rand
	e     *vfat.Editor
	files map[string][]byte
	sec   int64
	full  int // how often there was no room
}

var words = []string{"a", "B.TXT", "readme.md", "Firmware", "Ordner mit Ä", "x", "longer name than eight", "longer name than nine", "vmlinuz-6.1.0", "CAPS", "🚀"}

func (m *model) dirs() []string {
	list := []string{"."}
	for p, data := range m.files {
		if data == nil {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

func (m *model) find(p string) *vfat.Object {
	o := m.e.Root()
	for part := range strings.SplitSeq(p, "/") {
		if part == "." {
			continue
		}
		if m.r.IntN(2) == 0 {
			part = strings.ToUpper(part)
		}
		var err error
		if o, err = m.e.Lookup(o, part); err != nil {
			m.t.Fatalf("%s: %v", p, err)
		}
	}
	return o
}

// refused checks an error against what the model expects, and tells whether there was one.
func (m *model) refused(op string, err error, want unix.Errno) bool {
	m.t.Helper()
	if errors.Is(err, unix.ENOSPC) {
		m.full++
		return true
	}
	if want == 0 && err != nil || want != 0 && !errors.Is(err, want) {
		m.t.Fatalf("%s: %v, want %v", op, err, want)
	}
	return err != nil
}

func (m *model) any(dirs bool) string {
	var list []string
	for p, data := range m.files {
		if dirs || data != nil {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return list[m.r.IntN(len(list))]
}

func (m *model) below(p string) (list []string) {
	for q := range m.files {
		if strings.HasPrefix(q, p+"/") {
			list = append(list, q)
		}
	}
	return list
}

// name is one in some directory; have is what is there, whatever its case.
func (m *model) name() (dir, p string, have bool) {
	dirs := m.dirs()
	dir = dirs[m.r.IntN(len(dirs))]
	p = path.Join(dir, words[m.r.IntN(len(words))])
	_, have = m.files[p]
	return dir, p, have
}

func (m *model) step() {
	m.sec += 2
	switch p := m.any(true); {
	case m.r.IntN(4) == 0 || p == "":
		m.create()
	case m.r.IntN(4) == 0:
		m.rename(p)
	case m.r.IntN(5) == 0:
		m.remove(p)
	default:
		if p = m.any(false); p != "" {
			m.write(p)
		}
	}
}

func (m *model) create() {
	dir, p, have := m.name()
	isDir := m.r.IntN(4) == 0
	_, err := m.e.Create(m.find(dir), path.Base(p), isDir, m.sec)
	var want unix.Errno
	if have {
		want = unix.EEXIST
	}
	if m.refused("create "+p, err, want) {
		return
	}
	m.files[p] = []byte{}
	if isDir {
		m.files[p] = nil
	}
}

func (m *model) remove(p string) {
	var want unix.Errno
	if len(m.below(p)) > 0 {
		want = unix.ENOTEMPTY
	}
	if !m.refused("remove "+p, m.e.Remove(m.find(p), m.sec), want) {
		delete(m.files, p)
	}
}

func (m *model) rename(p string) {
	dir, to, have := m.name()
	isDir, keep := m.files[p] == nil, m.r.IntN(8) == 0
	var want unix.Errno
	switch {
	case dir == p || strings.HasPrefix(dir, p+"/"):
		want = unix.EINVAL
	case to == p || !have:
	case keep:
		want = unix.EEXIST
	case isDir && m.files[to] != nil:
		want = unix.ENOTDIR
	case !isDir && m.files[to] == nil:
		want = unix.EISDIR
	case len(m.below(to)) > 0:
		want = unix.ENOTEMPTY
	}
	if m.refused(fmt.Sprintf("rename %s to %s", p, to), m.e.Rename(m.find(p), m.find(dir), path.Base(to), keep, m.sec), want) || to == p {
		return
	}
	for _, q := range append(m.below(p), p) {
		m.files[to+strings.TrimPrefix(q, p)] = m.files[q]
		delete(m.files, q)
	}
}

func (m *model) write(p string) {
	o, data := m.find(p), m.files[p]
	if m.r.IntN(4) == 0 {
		n := m.r.IntN(60_000)
		if !m.refused("truncate "+p, m.e.Truncate(o, int64(n), m.sec), 0) {
			m.files[p] = append(data, make([]byte, max(0, n-len(data)))...)[:n:n]
		}
		return
	}
	b, off := make([]byte, m.r.IntN(30_000)), m.r.IntN(len(data)+5_000)
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	if m.refused("write "+p, m.e.WriteAt(o, b, int64(off), m.sec), 0) {
		return
	}
	data = append(data, make([]byte, max(0, off+len(b)-len(data)))...)
	copy(data[off:], b)
	m.files[p] = slices.Clip(data)
}

// check reads every file.
func (m *model) check() {
	for p, data := range m.files {
		if data == nil {
			continue
		}
		got := make([]byte, len(data)+1)
		n, err := m.e.ReadAt(m.find(p), got, 0)
		if !errors.Is(err, io.EOF) || !bytes.Equal(got[:max(0, min(n, len(data)))], data) {
			m.t.Fatalf("%s: %d of %d bytes, %v", p, n, len(data), err)
		}
	}
}

// edited makes a file system, changes it as the seed says, and returns its image.
func edited(t *testing.T, o vfat.Options, seed uint64) (string, *model) {
	img := path.Join(t.TempDir(), "vfat.img")
	if err := vfat.Make(t.Context(), img, o, tree.FromFiles([]tree.File{{Path: "efi/boot/old.efi", Data: bytes.Repeat([]byte("old"), 3000)}}, time.Unix(1e9, 0))); err != nil {
		t.Fatal(err)
	}
	f, e := openImage(t, img)
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 1)), e: e, sec: 1_600_000_000, files: map[string][]byte{
		"efi": nil, "efi/boot": nil, "efi/boot/old.efi": bytes.Repeat([]byte("old"), 3000)}}
	for i := range 600 {
		m.step()
		if i%100 == 0 {
			m.check()
		}
	}
	m.check()
	if err := errors.Join(e.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return img, m
}

func openImage(t *testing.T, img string) (*os.File, *vfat.Editor) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	e, err := vfat.Edit(f, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f, e
}

// TestEditor changes file systems at random, and asks fsck.vfat and the reader what
// has become of them. The same changes give the same bytes.
func TestEditor(t *testing.T) {
	fsystest.Need(t, "fsck.vfat")
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			img, m := edited(t, o, seed)
			fsystest.Run(t, "fsck.vfat", "-n", img)
			sameAsModel(t, img, m.files)
			again, _ := edited(t, o, seed)
			if !bytes.Equal(read(t, img), read(t, again)) {
				t.Error("the same changes gave other bytes")
			}
			if name == "fat12" && m.full == 0 {
				t.Error("it was never full")
			}
		})
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameAsModel reads an image with the reader.
func sameAsModel(t *testing.T, img string, files map[string][]byte) {
	t.Helper()
	data := read(t, img)
	r, err := fsys.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	err = fs.WalkDir(r, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		found++
		want, ok := files[p]
		if !ok || d.IsDir() != (want == nil) {
			t.Errorf("%s is there", p)
			return nil
		}
		if d.IsDir() {
			return nil
		}
		got, err := fs.ReadFile(r, p)
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs", p)
		}
		return err
	})
	if err != nil || found != len(files) {
		t.Errorf("%d of %d files, %v", found, len(files), err)
	}
}

// TestEditorKeeps removes and replaces files that are in use.
func TestEditorKeeps(t *testing.T) {
	fsystest.Need(t, "fsck.vfat")
	img := path.Join(t.TempDir(), "vfat.img")
	if err := vfat.Make(t.Context(), img, vfat.Options{Size: 4 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	f, e := openImage(t, img)
	defer f.Close()
	o, err := e.Create(e.Root(), "log", false, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	_, _, free := e.Space()
	e.Use(o)
	if err := errors.Join(e.WriteAt(o, []byte("kept"), 0, 1e9), e.Remove(o, 1e9)); err != nil {
		t.Fatal(err)
	}
	other, err := e.Create(e.Root(), "log", false, 1e9)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := e.ReadAt(o, got, 0); err != nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
	if err := e.WriteAt(o, []byte("more"), 4, 1e9); err != nil {
		t.Error(err)
	}
	if err := e.Unuse(o); err != nil {
		t.Error(err)
	}
	if _, _, now := e.Space(); now != free {
		t.Errorf("%d clusters are free, want %d", now, free)
	}
	for name, want := range map[string]unix.Errno{"a?b": unix.EINVAL, "dot.": unix.EINVAL, strings.Repeat("x", 256): unix.ENAMETOOLONG, "LOG": unix.EEXIST} {
		if _, err := e.Create(e.Root(), name, false, 1e9); !errors.Is(err, want) {
			t.Errorf("%.10q: %v, want %v", name, err, want)
		}
	}
	if err := e.WriteAt(other, []byte("x"), 1<<32, 1e9); !errors.Is(err, unix.EFBIG) {
		t.Errorf("beyond 4 GiB: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	fsystest.Run(t, "fsck.vfat", "-n", img)
}

// TestSettle writes the same at two times, once with a detour, and finds the same bytes.
func TestSettle(t *testing.T) {
	fsystest.Need(t, "fsck.vfat")
	for name, o := range kinds() {
		t.Run(name, func(t *testing.T) {
			var images [2][]byte
			for i := range images {
				img := path.Join(t.TempDir(), "vfat.img")
				o.VolumeID = 7
				if err := vfat.Make(t.Context(), img, o, tree.FromFiles([]tree.File{{Path: "old", Data: []byte("old")}}, time.Unix(1e9, 0))); err != nil {
					t.Fatal(err)
				}
				began := time.Unix(1_700_000_001+int64(i)*86_400*3, 999)
				change(t, img, began, i == 1)
				f, err := os.OpenFile(img, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(vfat.Settle(t.Context(), f, began, time.Unix(1_500_000_000, 0)), f.Close()); err != nil {
					t.Fatal(err)
				}
				fsystest.Run(t, "fsck.vfat", "-n", img)
				images[i] = read(t, img)
				if bytes.Contains(images[i], []byte("secret")) {
					t.Error("what was deleted is there")
				}
				r, err := fsys.NewReader(bytes.NewReader(images[i]), int64(len(images[i])))
				if err != nil {
					t.Fatal(err)
				}
				for name, want := range map[string]int64{"old": 1e9, "new": 1_500_000_000} {
					if st, err := r.Stat(name); err != nil || st.ModTime().Unix() != want {
						t.Errorf("%s: %v, %v", name, st, err)
					}
				}
			}
			if !bytes.Equal(images[0], images[1]) {
				t.Error("two images differ")
			}
		})
	}
}

// change writes a file, and one more that is deleted again.
func change(t *testing.T, img string, at time.Time, late bool) {
	t.Helper()
	f, e := openImage(t, img)
	sec := at.Unix()
	o, err := e.Create(e.Root(), "new", false, sec)
	if err == nil {
		err = e.WriteAt(o, []byte("new"), 0, sec)
	}
	gone, cerr := e.Create(e.Root(), "gone for good", false, sec)
	if err = errors.Join(err, cerr); err != nil {
		t.Fatal(err)
	}
	text := "secret"
	if late {
		text = "another secret"
	}
	if err := errors.Join(e.WriteAt(gone, []byte(text), 0, sec), e.Remove(gone, sec), e.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// FuzzEdit changes damaged file systems, of which the input is the beginning and
// zeros the rest. Its corpus has the smallest ones of each kind of table.
func FuzzEdit(f *testing.F) {
	f.Add([]byte{0xeb, 0x3c, 0x90})
	f.Fuzz(func(t *testing.T, head []byte) {
		b := make(memory, 64<<10)
		copy(b, head)
		e, err := vfat.Edit(b, int64(len(b)))
		if err != nil {
			return
		}
		o, err := e.Create(e.Root(), "new", true, 1e9)
		if err != nil {
			return
		}
		list, err := e.Children(e.Root())
		if err != nil {
			t.Fatalf("what was read once: %v", err)
		}
		for _, x := range slices.Clone(list) {
			if x.IsDir() {
				_ = e.Rename(x, o, x.Name, false, 1e9)
			} else {
				_ = e.WriteAt(x, []byte("x"), 5000, 1e9)
				_ = e.Remove(x, 1e9)
			}
		}
		_ = e.Close()
	})
}

// memory is an image in memory.
type memory []byte

func (m memory) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(b, m[off:]), nil
}

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], b), nil
}
