package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// content is 5 MiB and a few bytes, most of them zero.
func content() []byte {
	b := make([]byte, 5<<20+77)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 100_000 {
		b[i+1<<20] = byte(r.Uint32())
	}
	return append(b, "end"...)
}

func file(t *testing.T, member, src string) ([]byte, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := File(context.Background(), src, w, member); err != nil {
		return nil, err
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 > 1<<20 && st.Size > 2<<20 {
		t.Errorf("%d bytes are stored of %d, %v", st.Blocks*512, st.Size, err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b, nil
}

func packedFile(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFileUnpacksWhatOthersPacked has the usual programs as judges, also of files that
// were put together from several, and cut off.
func TestFileUnpacksWhatOthersPacked(t *testing.T) {
	want := content()
	for _, program := range []string{"gzip", "xz", "bzip2", "zstd -q"} {
		argv := strings.Fields(program)
		if _, err := exec.LookPath(argv[0]); err != nil {
			t.Logf("%s is not installed", argv[0])
			continue
		}
		cmd := exec.Command(argv[0], append(argv[1:], "-c")...)
		cmd.Stdin = bytes.NewReader(want)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := file(t, "", packedFile(t, packed)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", program, len(got), err)
		}
		twice := append(packed[:len(packed):len(packed)], packed...)
		if got, err := file(t, "", packedFile(t, twice)); err != nil || len(got) != 2*len(want) {
			t.Errorf("%s twice: %d bytes, %v", program, len(got), err)
		}
		if _, err := file(t, "", packedFile(t, packed[:len(packed)*2/3])); err == nil {
			t.Errorf("%s: what was cut off is unpacked", program)
		}
	}
}

func TestMembers(t *testing.T) {
	want := content()
	var tarball, zipped bytes.Buffer
	tw, zw := tar.NewWriter(&tarball), zip.NewWriter(&zipped)
	for _, f := range []struct {
		name string
		b    []byte
	}{{"./disk.raw", want}, {"dir/readme", []byte("hello")}} {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.b)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		tw.Write(f.b)
		w, err := zw.Create(strings.TrimPrefix(f.name, "./"))
		if err != nil {
			t.Fatal(err)
		}
		w.Write(f.b)
	}
	if err := tw.WriteHeader(&tar.Header{Name: "link", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}); err != nil {
		t.Fatal(err)
	}
	tw.Close()
	zw.Close()
	for name, b := range map[string][]byte{"tar": tarball.Bytes(), "zip": zipped.Bytes()} {
		src := packedFile(t, b)
		if got, err := file(t, "disk.raw", src); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if _, err := file(t, "none", src); err == nil || !strings.Contains(err.Error(), `it has no member "none" (have`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := file(t, "link", packedFile(t, tarball.Bytes())); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link: %v", err)
	}
	if _, err := file(t, "", packedFile(t, zipped.Bytes())); err == nil || !strings.Contains(err.Error(), `it has 2 files ("disk.raw", "dir/readme"): name one of them as member`) {
		t.Errorf("a zip of two: %v", err)
	}
	if _, err := file(t, "", packedFile(t, []byte("plain"))); err == nil || !strings.Contains(err.Error(), "there is nothing to unpack") {
		t.Errorf("what is not packed: %v", err)
	}
	if _, err := file(t, "x", packedFile(t, bytes.Repeat([]byte("no tar "), 1000))); err == nil || !strings.Contains(err.Error(), "as a tar archive") {
		t.Errorf("what is no archive: %v", err)
	}
}

// damagedTarballs are archives with a member disk.raw of which one bit has changed. It
// shows in a checksum alone: of the stream, whose end lies behind that of the archive.
func damagedTarballs(t *testing.T) map[string][]byte {
	t.Helper()
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	data := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	if err := w.WriteHeader(&tar.Header{Name: "disk.raw", Size: int64(len(data)), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	z.Write(plain.Bytes())
	z.Close()
	inData := packed.Bytes()
	inData[len(inData)/2] ^= 1
	damaged := map[string][]byte{"gzip": inData}
	for program, fromEnd := range map[string]int{"gzip -q": 6, "bzip2 -q": 3, "xz -q --check=crc32": 9, "zstd -q --check": 2} {
		argv := strings.Fields(program)
		cmd := exec.Command(argv[0], append(argv[1:], "-c")...)
		cmd.Stdin = bytes.NewReader(plain.Bytes())
		b, err := cmd.Output()
		if err != nil {
			t.Logf("%s: %v", program, err)
			continue
		}
		b[len(b)-fromEnd] ^= 1
		damaged[program] = b
	}
	return damaged
}

func TestAMemberOfADamagedStreamIsAnError(t *testing.T) {
	for name, b := range damagedTarballs(t) {
		if _, err := file(t, "disk.raw", packedFile(t, b)); err == nil {
			t.Errorf("%s: taken without a word", name)
		}
	}
}

func TestEnding(t *testing.T) {
	for name, want := range map[string]string{"a.img.xz": "a.img", "b.tgz": "b.tar", "c.qcow2": "", "d.tar.zst": "d.tar", "e.zip": "e", "xz": ""} {
		inner, packed := Ending(name)
		if packed != (want != "") || packed && inner != want {
			t.Errorf("%s: %q, %v", name, inner, packed)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("BZh9"))
	f.Add([]byte("PK\x03\x04"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		src := filepath.Join(dir, "in")
		if err := os.WriteFile(src, b, 0o666); err != nil {
			t.Fatal(err)
		}
		for _, member := range []string{"", "x"} {
			w, err := os.Create(filepath.Join(dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			_ = File(context.Background(), src, w, member)
			w.Close()
		}
	})
}
