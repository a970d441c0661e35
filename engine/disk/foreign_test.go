package disk

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/disk/image"
)

// foreign are the ways in which qemu-img is asked to write.
var foreign = []struct {
	format string
	args   string
}{
	{"qcow2", ""},
	{"qcow2", "-o compat=0.10"},
	{"qcow2", "-o cluster_size=512"},
	{"qcow2", "-o cluster_size=2M"},
	{"qcow2", "-o refcount_bits=1"},
	{"qcow2", "-o refcount_bits=64,lazy_refcounts=on"},
	{"qcow2", "-o refcount_bits=2,cluster_size=1k"},
	{"qcow2", "-o refcount_bits=4,cluster_size=4k"},
	{"qcow2", "-o refcount_bits=8,cluster_size=128k"},
	{"qcow2", "-o refcount_bits=32,cluster_size=1M"},
	{"qcow2", "-o refcount_bits=16,cluster_size=8k"},
	{"qcow2", "-o refcount_bits=64,cluster_size=16k"},
	{"qcow2", "-o cluster_size=32k,lazy_refcounts=on"},
	{"qcow2", "-o cluster_size=256k"},
	{"qcow2", "-o cluster_size=512k"},
	{"qcow2", "-o compat=0.10,cluster_size=512,preallocation=metadata"},
	{"qcow2", "-o preallocation=off"},
	{"qcow2", "-o preallocation=falloc"},
	{"qcow2", "-o preallocation=metadata"},
	{"qcow2", "-o preallocation=full"},
	{"qcow2", "-o extended_l2=on"},
	{"qcow2", "-o extended_l2=on,cluster_size=16k"},
	{"qcow2", "-o extended_l2=on,cluster_size=2M,preallocation=metadata"},
	{"qcow2", "-o extended_l2=on,cluster_size=128k,refcount_bits=1"},
	{"qcow2", "-c"},
	{"qcow2", "-c -o cluster_size=512"},
	{"qcow2", "-c -o cluster_size=2M"},
	{"qcow2", "-c -o compression_type=zstd,cluster_size=512"},
	{"qcow2", "-c -o compression_type=zlib,refcount_bits=64"},
	{"qcow2", "-c -o compat=0.10,cluster_size=4k"},
	{"qcow2", "-c -o compression_type=zstd"},
	{"qcow2", "-c -o compression_type=zstd,cluster_size=2M"},
	{"qcow2", "-c -o extended_l2=on"},
	{"qcow2", "-c -o extended_l2=on,compression_type=zstd,cluster_size=32k"},
	{"qcow2", "-S 0"},
	{"raw", "-o preallocation=full"},
	{"raw", "-o preallocation=falloc"},
	{"vmdk", ""},
	{"vmdk", "-o zeroed_grain=on"},
	{"vmdk", "-o adapter_type=lsilogic,compat6=on"},
	{"vmdk", "-o adapter_type=ide,hwversion=4"},
	{"vmdk", "-o adapter_type=buslogic,hwversion=14,toolsversion=2147483647"},
	{"vmdk", "-o adapter_type=legacyESX"},
	{"vmdk", "-o subformat=monolithicSparse,zeroed_grain=on,compat6=off"},
	{"vmdk", "-o subformat=twoGbMaxExtentSparse,zeroed_grain=on"},
	{"vmdk", "-o subformat=streamOptimized,adapter_type=lsilogic,compat6=on"},
	{"vmdk", "-o subformat=monolithicFlat"},
	{"vmdk", "-o subformat=twoGbMaxExtentSparse"},
	{"vmdk", "-o subformat=twoGbMaxExtentFlat"},
	{"vmdk", "-o subformat=streamOptimized"},
	{"vdi", ""},
	{"vdi", "-o static=on"},
	{"vdi", "-o static=off,preallocation=off"},
	{"vhd", ""},
	{"vhd", "-o subformat=dynamic"},
	{"vhd", "-o force_size=on"},
	{"vhd", "-o subformat=fixed"},
	{"vhd", "-o subformat=dynamic,force_size=on"},
	{"vhd", "-o subformat=fixed,force_size=on"},
	{"vhdx", ""},
	{"vhdx", "-o subformat=fixed"},
	{"vhdx", "-o block_size=1M,block_state_zero=off"},
	{"vhdx", "-o block_size=2M,log_size=1M"},
	{"vhdx", "-o block_size=8M,block_state_zero=on"},
	{"vhdx", "-o block_size=32M,log_size=64M"},
	{"vhdx", "-o subformat=fixed,block_size=1M"},
	{"vhdx", "-o subformat=dynamic,block_size=64M"},
	{"vhdx", "-o block_size=256M,log_size=2M"},
}

// TestReadForeign reads what qemu-img wrote, whole and in odd pieces.
func TestReadForeign(t *testing.T) {
	tool(t, "qemu-img")
	for i, f := range foreign {
		t.Run(f.format+" "+f.args, func(t *testing.T) {
			t.Parallel()
			src := scattered(t, uint64(100+i), 5<<20+512*int64(i))
			dst := filepath.Join(t.TempDir(), "f."+f.format)
			args := append([]string{"convert", "-f", "raw", "-O", qemuName(f.format)}, strings.Fields(f.args)...)
			run(t, "qemu-img", append(args, src, dst)...)
			img := mustOpen(t, dst, f.format, image.OpenOptions{Extents: true})
			back := filepath.Join(t.TempDir(), "back.raw")
			if err := Convert(context.Background(), img, back, "raw", image.WriteOptions{}); err != nil {
				t.Fatal(err)
			}
			if f.format == "vhd" { // QEMU makes it longer, by zeros
				run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", src, back)
				src = filepath.Join(t.TempDir(), "theirs.raw")
				run(t, "qemu-img", "convert", "-f", "vpc", "-O", "raw", dst, src)
			}
			sameBytes(t, src, back)
			readOddly(t, img, mustOpen(t, src, "raw", image.OpenOptions{}))
		})
	}
}

// readOddly reads pieces that are aligned to nothing.
func readOddly(t *testing.T, got, want image.Image) {
	t.Helper()
	a, b := make([]byte, 70001), make([]byte, 70001)
	for off := int64(0); off < want.Size(); off += 50021 {
		n, err := got.ReadAt(a, off)
		m, err2 := want.ReadAt(b, off)
		if n != m || err != err2 || string(a[:n]) != string(b[:m]) {
			t.Fatalf("at %d: %d bytes, %v; want %d, %v", off, n, err, m, err2)
		}
	}
	for _, off := range []int64{-1, want.Size(), want.Size() + 1} {
		if _, err := got.Extent(off); err != io.EOF {
			t.Errorf("Extent(%d): %v", off, err)
		}
	}
}

// TestSplitVMDK reads a disk that spans several extent files.
func TestSplitVMDK(t *testing.T) {
	tool(t, "qemu-img")
	for _, kind := range []string{"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"} {
		dst := filepath.Join(t.TempDir(), "big.vmdk")
		run(t, "qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat="+kind, dst, "5G")
		for _, at := range []string{"0", "2146435072", "2147483136", "5368708608"} {
			run(t, "qemu-io", "-f", "vmdk", "-c", "write -P 7 "+at+" 512", dst)
		}
		img := mustOpen(t, dst, "vmdk", image.OpenOptions{Extents: true})
		out := filepath.Join(t.TempDir(), "out.qcow2")
		if err := Convert(context.Background(), img, out, "qcow2", image.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		run(t, "qemu-img", "compare", "-f", "vmdk", "-F", "qcow2", dst, out)
	}
}

func TestBacking(t *testing.T) {
	tool(t, "qemu-img")
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base.raw"), filepath.Join(dir, "top.qcow2")
	data, err := os.ReadFile(scattered(t, 7, 3<<20))
	if err == nil {
		err = os.WriteFile(base, data, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", top, "4M")
	run(t, "qemu-io", "-f", "qcow2", "-c", "write -P 9 1000 70000", "-c", "write -z 1M 128k", "-c", "write -P 3 3500k 1k", top)

	_, err = Open(top, "qcow2", image.OpenOptions{})
	if err == nil || !strings.Contains(err.Error(), `names a backing file "base.raw" (format "raw"), which was not declared`) {
		t.Errorf("undeclared backing file: %v", err)
	}
	img := mustOpen(t, top, "qcow2", image.OpenOptions{Backing: BackedBy(base, "raw", image.OpenOptions{})})
	flat := filepath.Join(dir, "flat.raw")
	if err := Convert(context.Background(), img, flat, "raw", image.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", top, flat)

	// and the reverse: only what differs
	for _, compress := range []string{"", "zstd"} {
		again := filepath.Join(dir, "again"+compress+".qcow2")
		o := image.WriteOptions{Backing: &image.Backing{Path: "base.raw", Format: "raw"}, Compress: compress}
		if err := Convert(context.Background(), mustOpen(t, flat, "raw", image.OpenOptions{}), again, "qcow2", o); err != nil {
			t.Fatal(err)
		}
		run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", flat, again)
		run(t, "qemu-img", "check", again)
		if info, _ := os.Stat(again); info.Size() > 1<<20 {
			t.Errorf("the difference takes %d bytes", info.Size())
		}
	}
}

// TestRefusals names what is not read.
func TestRefusals(t *testing.T) {
	tool(t, "qemu-img")
	dir := t.TempDir()
	create := func(name string, args ...string) string {
		path := filepath.Join(dir, name)
		run(t, "qemu-img", append(append([]string{"create", "-q"}, args...), path, "1M")...)
		return path
	}
	base := create("base.vmdk", "-f", "vmdk")
	for _, c := range []struct{ path, format, want string }{
		{create("d.qcow2", "-f", "qcow2", "-o", "data_file="+filepath.Join(dir, "ext.raw")), "qcow2", "keeps its data in another file"},
		{create("l.qcow2", "--object", "secret,id=s,data=x", "-f", "qcow2", "-o", "encrypt.format=aes,encrypt.key-secret=s"), "qcow2", "encrypted qcow2 (method 1) is not supported"},
		{create("f.vmdk", "-f", "vmdk", "-o", "subformat=monolithicFlat"), "vmdk", `keeps its data in other files ("f-flat.vmdk"), which may not be opened`},
		{create("s.vmdk", "-f", "vmdk", "-b", base, "-F", "vmdk"), "vmdk", "snapshot or linked clone"},
		{base, "qcow2", "not a qcow2 image"},
		{base, "qcow3", `unknown format "qcow3" (have qcow2, raw, vdi, vhd, vhdx, vmdk): did you mean "qcow2"?`},
		{dir, "raw", "not a regular file or block device"},
		{filepath.Join(dir, "none"), "raw", "no such file or directory"},
	} {
		img, err := Open(c.path, c.format, image.OpenOptions{})
		if err == nil {
			img.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s as %s: %v, want %s", c.path, c.format, err, c.want)
		}
	}
}

// TestExtentEscapes tries to make a descriptor read other people's files.
func TestExtentEscapes(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, make([]byte, 512), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(sub, "link")); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("mkfifo", filepath.Join(sub, "fifo")).Run(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{secret, "../secret", "link", "fifo", "/dev/zero", "x/../../secret", "json:{}"} {
		path := filepath.Join(sub, "d.vmdk")
		text := fmt.Sprintf("# Disk DescriptorFile\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"%s\" 0\n", name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if img, err := Open(path, "vmdk", image.OpenOptions{Extents: true}); err == nil {
			img.Close()
			t.Errorf("opened %s", name)
		}
	}
}

// TestDeclaredRaw keeps a raw disk raw that begins like something else.
func TestDeclaredRaw(t *testing.T) {
	tool(t, "qemu-img")
	path := filepath.Join(t.TempDir(), "x.raw")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "1G")
	if f, err := Detect(path); f != "qcow2" || err != nil {
		t.Errorf("Detect: %q, %v", f, err)
	}
	img := mustOpen(t, path, "raw", image.OpenOptions{})
	info, err := os.Stat(path)
	if err != nil || img.Size() != info.Size() {
		t.Errorf("size %d, %v", img.Size(), err)
	}
}
