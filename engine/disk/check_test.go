package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
)

// TestCheckAgrees checks what was written here, and what qemu-img writes.
func TestCheckAgrees(t *testing.T) {
	src := scattered(t, 31, 9<<20/raced)
	for _, v := range variants {
		dst := filepath.Join(t.TempDir(), "x")
		if err := convertFile(src, "raw", dst, v.format, v.o); err != nil {
			t.Fatal(err)
		}
		clean(t, dst, v.format)
	}
	tool(t, "qemu-img")
	for _, f := range foreign {
		dst := filepath.Join(t.TempDir(), "x.img")
		args := append([]string{"convert", "-f", "raw", "-O", qemuName(f.format)}, strings.Fields(f.args)...)
		run(t, "qemu-img", append(args, src, dst)...)
		clean(t, dst, f.format)
	}
}

func clean(t *testing.T, path, format string) {
	t.Helper()
	r, err := Check(context.Background(), path, format, image.OpenOptions{Extents: true})
	if err != nil || r.Leaks+r.Corruptions > 0 {
		t.Errorf("%s: %+v, %v", path, r, err)
	}
}

// TestCheckFinds damages qcow2 images with known counts of 1 to 64 bits.
func TestCheckFinds(t *testing.T) {
	tool(t, "qemu-img")
	src := scattered(t, 32, 3<<20)
	for _, width := range []int{1, 2, 4, 8, 16, 32, 64} {
		bits := strconv.Itoa(width)
		dst := filepath.Join(t.TempDir(), "x.qcow2")
		run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "refcount_bits="+bits, src, dst)
		clean(t, dst, "qcow2")
		b, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		be := binary.BigEndian
		block := be.Uint64(b[be.Uint64(b[48:]):])
		b[int(block)+max(width/8-1, 0)] = 0 // that of the header, or of the first eight
		if err := os.WriteFile(dst, b, 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := Check(context.Background(), dst, "qcow2", image.OpenOptions{})
		if err != nil || r.Corruptions == 0 {
			t.Errorf("%s bits, counts cleared: %+v, %v", bits, r, err)
		}
		l1 := be.Uint64(b[40:])
		clear(b[l1 : l1+8])
		if err := os.WriteFile(dst, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if r, err = Check(context.Background(), dst, "qcow2", image.OpenOptions{}); err != nil || r.Leaks == 0 {
			t.Errorf("%s bits, table lost: %+v, %v", bits, r, err)
		}
	}
}

// TestCheckOfTheFlagCopied sets counts and flags at odds, each alone. qemu-img is the
// judge of what is a corruption.
func TestCheckOfTheFlagCopied(t *testing.T) {
	tool(t, "qemu-img")
	src := scattered(t, 33, 3<<20)
	be := binary.BigEndian
	for want, spoil := range map[string]func(b []byte, l1, l2, counts uint64){
		"says that it is used once (COPIED)": func(b []byte, l1, l2, counts uint64) {
			data := be.Uint64(b[l2:]) & offsetBits
			be.PutUint16(b[counts+data>>16*2:], 2)
		},
		"used once (COPIED): a write": func(b []byte, l1, l2, counts uint64) { be.PutUint16(b[counts+l2>>16*2:], 3) },
		"used more often (no COPIED)": func(b []byte, l1, l2, counts uint64) { b[l2] &^= 0x80 },
		"more often (no COPIED)":      func(b []byte, l1, l2, counts uint64) { b[l1] &^= 0x80 },
	} {
		dst := filepath.Join(t.TempDir(), "x.qcow2")
		if err := convertFile(src, "raw", dst, "qcow2", image.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dst)
		if err != nil {
			t.Fatal(err)
		}
		l1 := be.Uint64(b[40:])
		spoil(b, l1, be.Uint64(b[l1:])&offsetBits, be.Uint64(b[be.Uint64(b[48:]):]))
		if err := os.WriteFile(dst, b, 0o666); err != nil {
			t.Fatal(err)
		}
		r, err := Check(context.Background(), dst, "qcow2", image.OpenOptions{})
		if err != nil || r.Corruptions != 1 || !strings.Contains(strings.Join(r.Problems, "\n"), want) {
			t.Errorf("%s: %+v, %v", want, r, err)
		}
		if out, err := exec.Command("qemu-img", "check", dst).CombinedOutput(); err == nil || !strings.Contains(string(out), "ERROR") {
			t.Errorf("%s: qemu-img: %s", want, out)
		}
	}
}

// TestDetectOfAFixedVHD finds the footer, which is all that a fixed VHD has, and is not
// fooled by one that does not fit.
func TestDetectOfAFixedVHD(t *testing.T) {
	src := scattered(t, 34, 3<<20)
	dst := filepath.Join(t.TempDir(), "x.vhd")
	if err := convertFile(src, "raw", dst, "vhd", image.WriteOptions{Subformat: "fixed"}); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back.raw")
	if err := convertFile(dst, "", back, "raw", image.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, src, back)
	tool(t, "qemu-img")
	other := filepath.Join(t.TempDir(), "qemu.vhd")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "subformat=fixed,force_size=on", src, other)
	if f, err := Detect(other); f != "vhd" || err != nil {
		t.Errorf("qemu's is %s, %v", f, err)
	}
	b, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"a footer of a larger disk": b[1<<20:],
		"a damaged footer":          append(b[:len(b)-100:len(b)-100], bytes.Repeat([]byte{1}, 100)...),
		"too short":                 b[len(b)-300:],
	} {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		if f, err := Detect(path); f != "raw" || err != nil {
			t.Errorf("%s is %s, %v", what, f, err)
		}
	}
}

// hostile are changes of a qcow2 with clusters of 64 KiB, whose L1 table is at
// 196608 and which is compressed, with a part of the error they must cause.
var hostile = []struct {
	name, want string
	change     func(b []byte)
}{
	{"shared L2", "two L1 entries share the L2 table", func(b []byte) {
		l1 := binary.BigEndian.Uint64(b[40:])
		copy(b[l1+8:l1+16], b[l1:l1+8])
	}},
	{"L1 outside", "L1 table at offset", func(b []byte) { binary.BigEndian.PutUint64(b[40:], 1<<40) }},
	{"L1 unaligned", "L1 table at offset", func(b []byte) { b[47] = 8 }},
	{"L1 too small", "L1 table of 1 entries", func(b []byte) { binary.BigEndian.PutUint32(b[36:], 1) }},
	{"L2 outside", "does not lie in the file", func(b []byte) { binary.BigEndian.PutUint64(b[binary.BigEndian.Uint64(b[40:]):], 1<<50) }},
	{"compressed cluster outside", "compressed cluster at offset", func(b []byte) {
		be := binary.BigEndian
		l2 := be.Uint64(b[be.Uint64(b[40:]):]) & offsetBits
		be.PutUint64(b[l2:], 1<<62|1<<40)
	}},
	{"no reference counts", "table of reference counts of 0 clusters", func(b []byte) { clear(b[56:60]) }},
	{"reference counts outside", "table of reference counts of 1 clusters at offset", func(b []byte) { b[48] = 1 }},
	{"zero cluster unaligned", "corrupt qcow2: cluster at offset", func(b []byte) {
		be := binary.BigEndian
		l2 := be.Uint64(b[be.Uint64(b[40:]):]) & offsetBits
		be.PutUint64(b[l2:], 512|1)
	}},
	{"reference counts of 128 bits", "reference counts of 2^7 bits", func(b []byte) { b[99] = 7 }},
	{"odd header", "header of 109 bytes", func(b []byte) { b[103] = 109 }},
	{"tiny header", "header of 8 bytes", func(b []byte) { b[103] = 8 }},
	{"exabytes", "virtual size", func(b []byte) { binary.BigEndian.PutUint64(b[24:], 1<<60) }},
	{"all ones", "corrupt", func(b []byte) { copy(b[20:48], bytes.Repeat([]byte{0xff}, 28)) }},
	{"unknown feature", "unknown features", func(b []byte) { b[72] = 0x80 }},
	{"unknown compression", "compression type 9", func(b []byte) { b[79] |= 8; b[104] = 9 }},
}

// offsetBits are the bits of an entry of a qcow2's L1 table that are an offset.
const offsetBits = 0x00fffffffffffe00

// effort is what this process has allocated and read so far, in bytes.
type effort struct{ allocated, read uint64 }

func effortSoFar(t *testing.T) effort {
	t.Helper()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	e := effort{allocated: m.TotalAlloc}
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &e.read); err != nil {
		t.Fatal(err)
	}
	return e
}

// TestHostile changes an image, and wants an error before much is allocated
// or read.
func TestHostile(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	img := image.Blank(2 << 30)
	first := &image.Joined{Length: img.Size(), Parts: []image.Part{{Length: 1 << 20, Img: image.Bytes(bytes.Repeat([]byte("text"), 1<<18))}}}
	if err := Convert(context.Background(), first, src, "qcow2", image.WriteOptions{Compress: "zlib"}); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range hostile {
		b := bytes.Clone(good)
		h.change(b)
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		before := effortSoFar(t)
		err := convertFile(path, "qcow2", filepath.Join(t.TempDir(), "out"), "raw", image.WriteOptions{})
		if err == nil || !strings.Contains(err.Error(), h.want) {
			t.Errorf("%s: %v, want %q", h.name, err, h.want)
		}
		after := effortSoFar(t)
		if allocated := after.allocated - before.allocated; allocated > 16<<20 {
			t.Errorf("%s: %d bytes were allocated", h.name, allocated)
		}
		if read := after.read - before.read; read > uint64(2*len(b)) {
			t.Errorf("%s: %d bytes were read of a file of %d", h.name, read, len(b))
		}
	}
}

// TestVersion2HasNoFeatures sets bits that only version 3 knows in version 2,
// where they belong to no field.
func TestVersion2HasNoFeatures(t *testing.T) {
	tool(t, "qemu-img")
	src, dst := scattered(t, 33, 1<<20), filepath.Join(t.TempDir(), "x.qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=0.10", src, dst)
	f, err := os.OpenFile(dst, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte{0, 0, 0, 0}, 72) // the end of the header extensions
	f.WriteAt(bytes.Repeat([]byte{0xff}, 20), 80)
	f.Close()
	back := filepath.Join(t.TempDir(), "back")
	if err := convertFile(dst, "qcow2", back, "raw", image.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	sameBytes(t, src, back)
}

// TestMaxSize wants the limit named.
func TestMaxSize(t *testing.T) {
	_, err := Open(blank(t, 2000), "raw", image.OpenOptions{MaxSize: 1999})
	if err == nil || !strings.Contains(err.Error(), "claims to have 2000 bytes, more than the 1999 that are allowed (OpenOptions.MaxSize)") {
		t.Error(err)
	}
}

// TestReplacePartition replaces the second of three, and leaves the others alone.
func TestReplacePartition(t *testing.T) {
	tab, _, err := partition.Layout([]partition.Spec{{Name: "a", Size: 1 << 20}, {Name: "b", Size: 2 << 20}, {Name: "c", Size: 1 << 20}}, partition.LayoutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(t.TempDir(), "disk")
	full := func(c string, n int64) image.Image { return image.Bytes(bytes.Repeat([]byte(c), int(n))) }
	err = Assemble(context.Background(), dst, tab, map[int]image.Image{1: full("a", 1<<20), 2: full("b", 2<<20), 3: full("c", 1<<20)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(dst)
	if err != nil {
		t.Fatal(err)
	}
	for _, sel := range []string{"b", "9"} {
		if err := Replace(context.Background(), dst, sel, image.Blank(2<<20+1)); err == nil {
			t.Errorf("%s: no error", sel)
		}
	}
	if now, _ := os.ReadFile(dst); !bytes.Equal(now, before) {
		t.Fatal("a refused replacement changed the disk")
	}
	if err := Replace(context.Background(), dst, "b", full("new", 100_001)); err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(before)
	clear(want[tab.Partitions[1].Start:tab.Partitions[1].End()])
	copy(want[tab.Partitions[1].Start:], bytes.Repeat([]byte("new"), 100_001))
	if now, _ := os.ReadFile(dst); !bytes.Equal(now, want) {
		t.Error("the disk is not as it should be")
	}
}

// TestChain puts four images on each other.
func TestChain(t *testing.T) {
	tool(t, "qemu-img")
	dir := t.TempDir()
	under := image.Backing{Path: "0.raw", Format: "raw"}
	if err := os.Rename(scattered(t, 40, 3<<20), filepath.Join(dir, "0.raw")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"1", "2", "3"} {
		src := mustOpen(t, scattered(t, 41+uint64(name[0]), 3<<20), "raw", image.OpenOptions{})
		b := under
		dst := filepath.Join(dir, name+".qcow2")
		if err := Convert(context.Background(), src, dst, "qcow2", image.WriteOptions{Backing: &b}); err != nil {
			t.Fatal(err)
		}
		flat := filepath.Join(dir, name+".flat")
		if err := Convert(context.Background(), src, flat, "raw", image.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", dst, flat)
		under = image.Backing{Path: name + ".qcow2", Format: "qcow2", Backing: &b}
		img, err := openBacking(filepath.Join(dir, "above"), under)
		if err != nil {
			t.Fatal(err)
		}
		readOddly(t, img, src)
		img.Close()
	}
	under.Backing.Backing = nil
	if _, err := openBacking(filepath.Join(dir, "above"), under); err == nil || !strings.Contains(err.Error(), "which was not declared") {
		t.Errorf("a chain of which a part is not declared: %v", err)
	}
}
