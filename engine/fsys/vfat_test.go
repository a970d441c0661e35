package fsys

import (
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func seedFiles() []File {
	return []File{
		{Path: "meta-data", Data: []byte("instance-id: i-1\n")},
		{Path: "user-data", Data: []byte("#cloud-config\n{}\n")},
		{Path: "network-config", Data: []byte("version: 2\n")},
	}
}

// varied files: names of all kinds, sizes around every boundary.
func variedFiles() []File {
	rnd := rand.New(rand.NewSource(7))
	files := seedFiles()
	for i, size := range []int{0, 1, 511, 512, 513, 2047, 2048, 2049, 40_000, 300_001} {
		b := make([]byte, size)
		rnd.Read(b)
		files = append(files, File{Path: fmt.Sprintf("sizes/s%d.bin", i), Data: b, Time: time.Unix(1_700_000_000+int64(i)*3600, 0)})
	}
	for i := range 300 {
		files = append(files, File{Path: fmt.Sprintf("many/a rather long name number %d.text", i), Data: []byte(fmt.Sprint(i))})
	}
	return append(files,
		File{Path: "UPPER.TXT", Data: []byte("8.3")}, File{Path: "lower.txt", Data: []byte("8.3 in small")},
		File{Path: ".hidden", Data: []byte("h")}, File{Path: "two.dots.gz", Data: []byte("d")},
		File{Path: "grüße/日本語 🚀.txt", Data: []byte("u")}, File{Path: "a/b/c/d/e/f/g/h/i/j/deep", Data: []byte("deep")},
		File{Path: strings.Repeat("n", 200), Data: []byte("long")}, File{Path: "empty", Mode: fs.ModeDir | 0o755},
		File{Path: "readonly", Mode: 0o444, Data: []byte("r")}, File{Path: "plus+and[brackets]", Data: []byte("p")})
}

// extractVFAT reads everything back with mtools.
func sameAsMtools(t *testing.T, img string, files []File) {
	t.Helper()
	out := t.TempDir()
	run(t, "mcopy", "-s", "-n", "-i", img, "::*", out)
	for _, f := range files {
		if f.Mode.IsDir() {
			continue
		}
		if strings.ContainsAny(f.Path, "🚀") {
			continue // mtools knows no characters beyond 16 bits
		}
		got, err := os.ReadFile(filepath.Join(out, f.Path))
		if err != nil {
			t.Error(err)
		} else if string(got) != string(f.Data) {
			t.Errorf("%s: %d bytes differ from the %d written", f.Path, len(got), len(f.Data))
		}
	}
}

func TestVFAT(t *testing.T) {
	need(t, "fsck.vfat", "mcopy", "blkid")
	t.Setenv("LC_ALL", "C.UTF-8")
	for name, o := range map[string]VFATOptions{
		"smallest": {Label: "CIDATA"},
		"lower":    {Label: "cidata", Size: 2 << 20},
		"fat12":    {Size: 3<<20 + 100, VolumeID: 0x1234abcd},
		"fat16":    {Label: "X", Size: 16 << 20},
		"fat16big": {Size: 500 << 20},
		"fat32":    {Label: "ESP", Size: 64 << 20, Bits: 32},
		"fat32big": {Label: "ESP", Size: 2 << 30},
		"min32":    {Bits: 32},
		"min16":    {Bits: 16},
	} {
		t.Run(name, func(t *testing.T) {
			img := t.TempDir() + "/f.img"
			files := variedFiles()
			o.Time = time.Unix(1_500_000_000, 0)
			if err := MakeVFAT(ctxOf(t), img, o, files); err != nil {
				t.Fatal(err)
			}
			run(t, "fsck.vfat", "-n", "-v", img)
			if err := Check(ctxOf(t), img); err != nil {
				t.Error(err)
			}
			info, err := Probe(img, 0, 0)
			if err != nil || info.Type != "vfat" || info.Label != o.Label {
				t.Errorf("probe: %+v, %v", info, err)
			}
			compareBlkid(t, img, info)
			sameAsMtools(t, img, files)
		})
	}
}

// compareBlkid holds Probe against blkid.
func compareBlkid(t *testing.T, img string, info Info) {
	t.Helper()
	out := run(t, "blkid", "-p", "-o", "export", img)
	want := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			want[k] = strings.ReplaceAll(v, `\ `, " ")
		}
	}
	if info.Type != want["TYPE"] || info.UUID != want["UUID"] {
		t.Errorf("probe says %+v, blkid %v", info, want)
	}
	if label := want["LABEL"]; info.Label != label {
		t.Errorf("probe says label %q, blkid %q", info.Label, label)
	}
}

func TestVFATSmallest(t *testing.T) {
	need(t, "fsck.vfat", "mcopy")
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := MakeVFAT(ctxOf(t), dir+"/"+name, VFATOptions{Label: "CIDATA"}, seedFiles()); err != nil {
			t.Fatal(err)
		}
	}
	sameBytes(t, dir+"/a", dir+"/b")
	run(t, "fsck.vfat", "-n", dir+"/a")
	sameAsMtools(t, dir+"/a", seedFiles())
	if size := fileSize(t, dir+"/a"); size != fatTrack*fatSector {
		t.Errorf("a seed takes %d bytes", size)
	}
	if err := MakeVFAT(ctxOf(t), dir+"/large", VFATOptions{}, []File{{Path: "f", Size: 100 << 20, Source: sparseFile(t, 100<<20)}}); err != nil {
		t.Fatal(err)
	}
	run(t, "fsck.vfat", "-n", dir+"/large")
	if size := fileSize(t, dir+"/large"); size > 101<<20 {
		t.Errorf("100M take %d bytes", size)
	}
}

func sparseFile(t testing.TB, size int64) string {
	p := t.TempDir() + "/sparse"
	write(t, p, "x")
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestVFATRefusals(t *testing.T) {
	img := t.TempDir() + "/f.img"
	for _, c := range []struct {
		o     VFATOptions
		files []File
		want  string
	}{
		{VFATOptions{Label: "TWELVELETTER"}, nil, "12 bytes"},
		{VFATOptions{Label: "a/b"}, nil, "holds the character"},
		{VFATOptions{Size: 100}, nil, "below the least"},
		{VFATOptions{Size: 1 << 20}, []File{{Path: "f", Size: 2 << 20, Source: sparseFile(t, 2<<20)}}, "need"},
		{VFATOptions{}, []File{{Path: "a", Data: nil}, {Path: "A", Data: nil}}, "only in case"},
		{VFATOptions{}, []File{{Path: "a", Data: nil}, {Path: "./a", Data: nil}}, "two entries"},
		{VFATOptions{}, []File{{Path: "x/a?b"}}, "cannot hold '?'"},
		{VFATOptions{}, []File{{Path: "dot."}}, "end with a dot"},
		{VFATOptions{}, []File{{Path: "../up"}}, `must not contain ".."`},
		{VFATOptions{}, []File{{Path: "l", Mode: fs.ModeSymlink, Link: "x"}}, "only files and directories"},
		{VFATOptions{}, []File{{Path: "f", Size: 5 << 30, Source: sparseFile(t, 5<<30)}}, "holds files of"},
		{VFATOptions{Size: 1 << 20, Bits: 32}, nil, "cannot be divided"},
	} {
		wantError(t, MakeVFAT(ctxOf(t), img, c.o, c.files), c.want)
		gone(t, img)
	}
}
