package btrfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// image is one that b9 made and a test changes.
type image struct {
	t *testing.T
	f *os.File
}

func makeImage(t *testing.T, o Options, files ...tree.File) image {
	t.Helper()
	path := t.TempDir() + "/img"
	if err := Make(t.Context(), path, o, tree.FromFiles(files, time.Unix(1000, 0))); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return image{t, f}
}

// open reads the image as it is now.
func (m image) open() (*reader, error) {
	st, err := m.f.Stat()
	if err != nil {
		m.t.Fatal(err)
	}
	v, err := Open(volume.NewPages(io.NewSectionReader(m.f, 0, st.Size())))
	if err != nil {
		return nil, err
	}
	return v.(*reader), nil
}

// sound is open of an image in which nothing was changed that Open looks at.
func (m image) sound() *reader {
	m.t.Helper()
	v, err := m.open()
	if err != nil {
		m.t.Fatal(err)
	}
	return v
}

// files reads the image's files.
func (m image) files() tree.Reader { return volume.New(m.sound(), Kind) }

// write puts bytes into the image, wherever the block of a tree at a logical address lies.
func (m image) write(logical uint64, off int, b []byte) {
	m.t.Helper()
	st, _ := m.f.Stat()
	places, err := m.sound().copies(logical, st.Size())
	for i := 0; i < len(places) && err == nil; i++ {
		_, err = m.f.WriteAt(b, places[i]+int64(off))
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// find is the leaf of an item, and where in it the item's head and its data begin.
func (m image) find(p block, k key) (logical uint64, head, data int) {
	m.t.Helper()
	v := m.sound()
	for {
		b, err := v.readBlock(p)
		if err != nil {
			m.t.Fatal(err)
		}
		i, n := 0, int(le.Uint32(b[96:]))
		for i+1 < n && parseKey(b[header+p.unit()*(i+1):]).compare(k) <= 0 {
			i++
		}
		at := header + p.unit()*i
		if p.level > 0 {
			p = block{at: le.Uint64(b[at+keySize:]), level: p.level - 1}
			continue
		}
		if parseKey(b[at:]) != k {
			m.t.Fatalf("no item %v", k)
		}
		return p.at, at, header + int(le.Uint32(b[at+17:]))
	}
}

// patch changes an item.
func (m image) patch(root block, k key, off int, b []byte) {
	m.t.Helper()
	at, _, data := m.find(root, k)
	m.write(at, data+off, b)
}

// TestMovedSubvolume: a directory's entry of a subvolume counts only where the tree of
// roots says that the subvolume is there; elsewhere it is an empty directory.
func TestMovedSubvolume(t *testing.T) {
	ref := key{treeFiles, typeRootRef, firstFree}
	for name, change := range map[string]func(m image){
		"whole": func(image) {},
		"no reference": func(m image) {
			at, head, _ := m.find(m.sound().roots, ref)
			m.write(at, head+9, words(nil, firstFree+9))
		},
		"another dir":  func(m image) { m.patch(m.sound().roots, ref, 0, words(nil, firstFree+1)) },
		"another name": func(m image) { m.patch(m.sound().roots, ref, 18, []byte("b")) },
		"another level": func(m image) {
			at, head, _ := m.find(m.sound().roots, ref)
			m.write(at, head+8, []byte{typeRootRef + 1})
		},
	} {
		m := makeImage(t, Options{Subvolumes: map[string]string{"a": "rw"}}, tree.File{Path: "/", UID: 7, Mode: fs.ModeDir | 0o755}, tree.File{Path: "a/f"})
		change(m)
		r := m.files()
		list, err := fs.ReadDir(r, "a")
		if whole := name == "whole"; err != nil || (len(list) == 1) != whole {
			t.Errorf("%s: %d entries, %v", name, len(list), err)
		} else if st, err := r.Stat("a"); err != nil || !whole && st.Sys().(*tree.Attr).UID != 7 {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if _, err := r.Xattrs("a"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTreeOnce: no block of a tree is read twice on one way through it.
func TestTreeOnce(t *testing.T) {
	var files []tree.File
	for i := range 400 {
		files = append(files, tree.File{Path: fmt.Sprintf("%0100d", i)})
	}
	pointer := func(i int) int { return header + pointerSize*i }
	const unordered, another = "are not in order", "begins with another key than what points to it"
	for name, test := range map[string]struct {
		want   string
		change func(m image, root uint64, b []byte)
	}{
		"one pointer": {unordered, func(m image, root uint64, b []byte) {
			for i := range int(le.Uint32(b[96:])) {
				m.write(root, pointer(i), b[pointer(0):pointer(1)])
			}
		}},
		"one block": {another, func(m image, root uint64, b []byte) {
			for i := range int(le.Uint32(b[96:])) {
				m.write(root, pointer(i)+keySize, b[pointer(0)+keySize:pointer(1)])
			}
		}},
		"an empty block": {another, func(m image, _ uint64, b []byte) { m.write(le.Uint64(b[pointer(1)+keySize:]), 96, make([]byte, 4)) }},
		"a key twice": {unordered, func(m image, _ uint64, b []byte) {
			leaf := le.Uint64(b[pointer(0)+keySize:])
			m.write(leaf, header+itemSize, b[pointer(0):][:keySize])
		}},
		"keys of the next block": {unordered, func(m image, _ uint64, b []byte) {
			at := le.Uint64(b[pointer(0)+keySize:])
			leaf, err := m.sound().readBlock(block{at: at})
			if err != nil {
				m.t.Fatal(err)
			}
			m.write(at, header+itemSize*(int(le.Uint32(leaf[96:]))-1), b[pointer(1):][:keySize])
		}},
	} {
		m := makeImage(t, Options{}, files...)
		v := m.sound()
		root := v.subs[0].root
		b, err := v.readBlock(root)
		if err != nil || root.level != 1 || le.Uint32(b[96:]) < 5 {
			t.Fatal(err, root.level)
		}
		test.change(m, root.at, b)
		err = m.sound().scan(root, key{}, func(key, []byte) (bool, error) { return true, nil })
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// TestDirectoryNames: what is no name in a directory is damage, and so is ".", which btrfs
// does not store.
func TestDirectoryNames(t *testing.T) {
	for _, name := range []string{".", "..", "\x00"} {
		m := makeImage(t, Options{}, tree.File{Path: strings.Repeat("n", len(name))})
		m.patch(m.sound().subs[0].root, key{firstFree, typeDirIndex, 2}, 30, []byte(name))
		_, err := fs.ReadDir(m.files(), ".")
		fsystest.WantError(t, err, "is no name")
	}
}

// packedImage has a file f of what is stored in a compressed extent, of skip and length.
func packedImage(t *testing.T, stored []byte, how byte, whole, skip, length uint64) image {
	stored = append(bytes.Clone(stored), make([]byte, max(0, inlineLimit+1-len(stored)))...)
	m := makeImage(t, Options{}, tree.File{Path: "f", Data: stored})
	root, k := m.sound().subs[0].root, key{firstFree + 1, typeExtentData, 0}
	m.patch(root, k, 8, words(nil, whole))
	m.patch(root, k, 16, []byte{how})
	m.patch(root, k, 37, words(nil, skip, length))
	m.patch(root, key{firstFree + 1, typeInode, 0}, 16, words(nil, min(length, whole)))
	return m
}

// text is a text of n bytes that compresses, what it is compressed to, and where in that
// the second half begins.
func text(t *testing.T, how byte, n int) (plain, stored []byte, half int) {
	random := rand.New(rand.NewPCG(1, 2))
	for range n {
		plain = append(plain, "abcdefgh"[random.IntN(8)])
	}
	var out bytes.Buffer
	var w interface {
		io.WriteCloser
		Flush() error
	} = zlib.NewWriter(&out)
	if how == packedZstd {
		z, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	_, first := w.Write(plain[:n/2])
	flushed := w.Flush()
	half = out.Len()
	_, second := w.Write(plain[n/2:])
	if err := errors.Join(first, flushed, second, w.Close()); err != nil {
		t.Fatal(err)
	}
	return plain, out.Bytes(), half
}

// TestPackedBounds: what is read of a compressed extent lies in it.
func TestPackedBounds(t *testing.T) {
	_, stored, _ := text(t, packedZlib, 8000)
	for _, at := range [][2]uint64{{1<<63 - 1, 4096}, {4096, 8192}, {1, 1<<63 - 1}, {0, 1 << 63}, {8193, 0}, {1 << 63, 1}} {
		m := packedImage(t, stored, packedZlib, 8192, at[0], at[1])
		m.patch(m.sound().subs[0].root, key{firstFree + 1, typeInode, 0}, 16, words(nil, 8192))
		_, err := fs.ReadFile(m.files(), "f")
		if f, open := m.files().Open("f"); open == nil {
			_, err = f.(io.ReaderAt).ReadAt(make([]byte, 10), 1)
		}
		fsystest.WantError(t, err, "the file system is damaged: an extent of")
	}
}

// TestPackedDamage: behind a stream that ends are zeros; one that is damaged or cut off
// is an error.
func TestPackedDamage(t *testing.T) {
	for _, how := range []byte{packedZlib, packedZstd} {
		plain, stored, half := text(t, how, 30_000)
		got, err := fs.ReadFile(packedImage(t, stored, how, 32768, 0, 32768).files(), "f")
		if want := append(bytes.Clone(plain), make([]byte, 2768)...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("way %d: %d bytes, %v", how, len(got), err)
		}
		damaged := bytes.Clone(stored)
		for i := half; i < half+40; i++ {
			damaged[i] = 0xff
		}
		_, err = fs.ReadFile(packedImage(t, damaged, how, 32768, 0, 32768).files(), "f")
		fsystest.WantError(t, err, "a compressed extent")
		for _, padding := range []int{0, 1, 3, 4} {
			data, err := decompress(append(bytes.Clone(stored), make([]byte, padding)...), how, 32768)
			if err != nil || !bytes.Equal(data, plain) {
				t.Errorf("way %d, %d bytes of padding: %d bytes, %v", how, padding, len(data), err)
			}
		}
		for _, end := range []int{half, half + 100, len(stored) - 5} {
			if _, err := decompress(stored[:end], how, 32768); err == nil {
				t.Errorf("way %d: nothing says that a stream is cut off after %d bytes", how, end)
			}
		}
	}
}

// TestItemBounds holds what items may say: stripes on one device, bytes in an item.
func TestItemBounds(t *testing.T) {
	v := &reader{}
	chunk := make([]byte, 48+32*3)
	for stripes, want := range map[byte]string{0: "0 stripes", 1: "", 2: "", 3: "3 stripes on one device", 4: "4 stripes"} {
		chunk[44] = stripes
		if _, err := v.addChunk(key{firstFree, typeChunk, 1 << 20}, chunk); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d stripes: %v", stripes, err)
		}
	}
	if _, err := v.run(4096, append(inlineHead(5), "bytes"...)); err == nil {
		t.Error("bytes behind the first block lie in an item")
	}
}

// TestMissingSubvolume is an error as often as it is asked for.
func TestMissingSubvolume(t *testing.T) {
	v := makeImage(t, Options{}, tree.File{Path: "f"}).sound()
	for range 2 {
		_, err := v.subvolume(999)
		fsystest.WantError(t, err, "subvolume 999 is missing")
	}
	if len(v.subs) != 1 {
		t.Errorf("%d subvolumes are remembered", len(v.subs))
	}
}

// TestAttributesBound: a file with more attributes than are kept in memory.
func TestAttributesBound(t *testing.T) {
	many := map[string]string{}
	for i := range maxValues/16_000 + 1 {
		many[fmt.Sprint("user.", i)] = strings.Repeat("v", 16_000)
	}
	_, err := makeImage(t, Options{}, tree.File{Path: "f", Xattrs: many}).files().Xattrs("f")
	fsystest.WantError(t, err, "attributes, or 16777216 bytes of them")
}

// TestGrowCopies: a copy of a block that lies behind the end is damage, and nothing is
// written there.
func TestGrowCopies(t *testing.T) {
	m := makeImage(t, Options{Size: Least}, tree.File{Path: "f"})
	super := make([]byte, blockSize)
	if _, err := m.f.ReadAt(super, superAt); err != nil {
		t.Fatal(err)
	}
	chunks := rootBlock(le.Uint64(super[0x58:]), super[0xc7])
	k := key{firstFree, typeChunk, firstLogical}
	for _, c := range m.sound().chunks {
		if c.logical <= chunks.at {
			k.offset = c.logical
		}
	}
	const larger = 150 << 20
	if err := m.f.Truncate(larger); err != nil {
		t.Fatal(err)
	}
	m.patch(chunks, k, 48+32+8, words(nil, larger-nodeSize/2))
	fsystest.WantError(t, Grow(m.f), "behind the end, 157286400")
	if st, err := m.f.Stat(); err != nil || st.Size() != larger {
		t.Errorf("%d bytes, %v", st.Size(), err)
	}
	m.f.ReadAt(super, superAt)
	if le.Uint64(super[0x70:]) != Least {
		t.Error("the superblock was written")
	}
}
