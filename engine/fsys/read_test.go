package fsys

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/tool"
)

// readerMakers make the same files in every file system that can be read.
func readerMakers(t *testing.T, files []tree.File) map[string]func(img string) error {
	fsystest.Need(t, "mke2fs")
	return map[string]func(img string) error{
		"fat12": func(img string) error {
			return vfat.Make(t.Context(), img, vfat.Options{}, tree.FromFiles(files, time.Time{}))
		},
		"fat16": func(img string) error {
			return vfat.Make(t.Context(), img, vfat.Options{Size: 16 << 20}, tree.FromFiles(files, time.Time{}))
		},
		"fat32": func(img string) error {
			return vfat.Make(t.Context(), img, vfat.Options{Size: 64 << 20, Bits: 32}, tree.FromFiles(files, time.Time{}))
		},
		"fat16 4k": func(img string) error {
			return vfat.Make(t.Context(), img, vfat.Options{Size: 64 << 20, Bits: 16, Sector: 4096}, tree.FromFiles(files, time.Time{}))
		},
		"rockridge": func(img string) error {
			return iso9660.Make(t.Context(), img, iso9660.Options{VolumeID: "cidata", Joliet: true, RockRidge: true}, tree.FromFiles(files, time.Time{}))
		},
		"joliet": func(img string) error {
			return iso9660.Make(t.Context(), img, iso9660.Options{VolumeID: "cidata", Joliet: true}, tree.FromFiles(jolietOnly(files), time.Time{}))
		},
		"ext4": func(img string) error {
			return ext4.Make(t.Context(), img, ext4.Options{Size: 32 << 20}, tree.FromFiles(files, time.Time{}))
		},
		"ext2": func(img string) error {
			o := ext4.Options{Size: 32 << 20, BlockSize: 1024, Features: []string{"^has_journal", "^extent", "^64bit", "^metadata_csum", "^filetype"}}
			return ext4.Make(t.Context(), img, o, tree.FromFiles(files, time.Time{}))
		},
	}
}

// jolietOnly leaves out the names that Joliet cuts.
func jolietOnly(files []tree.File) []tree.File {
	return slices.DeleteFunc(slices.Clone(files), func(f tree.File) bool {
		return slices.ContainsFunc(strings.Split(f.Path, "/"), func(s string) bool { return len(s) > 60 })
	})
}

func TestReader(t *testing.T) {
	dir := t.TempDir()
	files := variedFiles()
	for name, build := range readerMakers(t, files) {
		t.Run(name, func(t *testing.T) {
			img := dir + "/" + name
			if err := build(img); err != nil {
				t.Fatal(err)
			}
			want := files
			if name == "joliet" {
				want = jolietOnly(files)
			}
			for _, off := range []int64{0, 1 << 20} {
				at := img
				if off > 0 {
					at = shifted(t, img, off)
				}
				compareReader(t, opened(t, at, off), want)
			}
		})
	}
}

// shifted puts an image behind off bytes of something else.
func shifted(t *testing.T, img string, off int64) string {
	data, err := os.ReadFile(img)
	if err != nil {
		t.Fatal(err)
	}
	fsystest.Write(t, img+".disk", strings.Repeat("\xff", int(off))+string(data))
	return img + ".disk"
}

func TestReaderUnknown(t *testing.T) {
	_, err := NewReader(strings.NewReader(strings.Repeat("x", 4096)), 4096)
	fsystest.WantError(t, err, "which cannot be read")
}

// TestReaderSeesWhatTheKernelSees compares every attribute with a mount's.
func TestReaderSeesWhatTheKernelSees(t *testing.T) {
	fsystest.Need(t, "mke2fs", "tar")
	dir := t.TempDir()
	buildTree(t, dir+"/src", 3)
	for name, args := range map[string][]string{
		"ext2":    {"-t", "ext2", "-b", "1024"},
		"ext3":    {"-t", "ext3", "-b", "4096"},
		"ext4":    {"-t", "ext4"},
		"inline":  {"-t", "ext4", "-O", "inline_data,ea_inode", "-I", "512"},
		"metabg":  {"-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"},
		"bigallo": {"-t", "ext4", "-O", "bigalloc"},
		"small":   {"-t", "ext4", "-I", "128", "-O", "^64bit"},
	} {
		t.Run(name, func(t *testing.T) {
			img := dir + "/" + name
			fsystest.Run(t, "mke2fs", append(append([]string{"-q", "-F"}, args...), img, "400M")...)
			fillMounted(t, img, dir+"/src")
			r := compareMounted(t, img, opened(t, img, 0))
			if b, err := fs.ReadFile(r, "absolute/passwd-"); err != nil || string(b) != "root:x:0:0\n" {
				t.Errorf("through links: %q, %v", b, err)
			}
		})
	}
}

// fillMounted lets the kernel write: large directories, sparse files, space
// that is allocated but not written.
func fillMounted(t *testing.T, img, src string) {
	mnt := t.TempDir()
	mountLoop(t, "loop", img, mnt)
	defer unmountLoop(t, img, mnt)
	exec.Command("cp", "-a", src+"/.", mnt).Run() // what fits: small blocks hold no long links
	exec.Command("fallocate", "-l", "300000", mnt+"/unwritten").Run()
	for i := range 1500 {
		fsystest.Write(t, fmt.Sprintf("%s/kernel/%0*d", mnt, 20+i%100, i), strings.Repeat("k", i%200))
	}
	for i := range 1000 {
		if i%3 != 0 {
			os.Remove(fmt.Sprintf("%s/kernel/%0*d", mnt, 20+i%100, i))
		}
	}
	writeSparse(t, mnt+"/holes", true)
	os.Symlink("/etc/../etc", mnt+"/absolute")
}

// TestReaderReplaysJournal takes an image while it is mounted, right after a
// sync to the journal, and compares with what the kernel makes of it.
func TestReaderReplaysJournal(t *testing.T) {
	fsystest.Need(t, "mke2fs", "mount", "sync")
	fsystest.NeedRoot(t)
	dir := t.TempDir()
	img, mnt := dir+"/live", dir+"/mnt"
	fsystest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", img, "200M")
	os.Mkdir(mnt, 0o700)
	mountLoop(t, "loop", img, mnt)
	func() {
		defer unmountLoop(t, img, mnt)
		for i := range 500 {
			fsystest.Write(t, fmt.Sprintf("%s/d%d/f%d", mnt, i%10, i), strings.Repeat("x", i))
		}
		fsystest.Run(t, "sync", "-f", mnt)
		os.RemoveAll(mnt + "/d3")
		fsystest.Write(t, mnt+"/etc/passwd", "root:x:0:0\n")
		fsystest.Write(t, mnt+"/etc/passwd-", "root:x:0:0\n")
		os.Symlink("/etc/../etc", mnt+"/absolute")
		f, err := os.Open(mnt + "/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		f.Sync()
		f.Close()
		fsystest.Run(t, "cp", "--sparse=always", img, dir+"/copy")
	}()
	if incompatOf(t, dir+"/copy")&needsRecovery == 0 {
		t.Skip("the kernel had nothing left in the journal")
	}
	r := opened(t, dir+"/copy", 0)
	got := listReader(t, r)
	fsystest.Run(t, "cp", dir+"/copy", dir+"/repaired")
	e2fsck, err := tool.Find("e2fsck")
	if err != nil {
		t.Skip(err)
	}
	exec.Command(e2fsck, "-fy", dir+"/repaired").Run()
	if want := listReader(t, compareMounted(t, dir+"/repaired", opened(t, dir+"/repaired", 0))); got != want {
		t.Error(firstDifference(want, got))
	}
}

// TestReaderForeign reads what other tools made.
func TestReaderForeign(t *testing.T) {
	dir := t.TempDir()
	files := append(variedFiles(), tree.File{Path: "lines", Data: []byte(strings.Repeat("a line that is compressed\n", 50_000))})
	for _, f := range files {
		if !f.Mode.IsDir() {
			fsystest.Write(t, filepath.Join(dir, "src", f.Path), string(f.Data))
		}
	}
	os.Symlink("sizes/../UPPER.TXT", dir+"/src/link")
	for name, line := range map[string]string{
		"genisoimage": "genisoimage -quiet -R -J -D -o IMG SRC",
		"relocated":   "genisoimage -quiet -R -o IMG SRC",
		"xorriso":     "xorriso -as mkisofs -quiet -R -o IMG SRC",
		"squashfs":    "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root",
		"xz":          "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp xz",
		"lzma":        "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp lzma",
		"lzo":         "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp lzo -b 1M",
		"lz4":         "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp lz4",
		"zstd":        "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp zstd -b 16384",
	} {
		t.Run(name, func(t *testing.T) {
			img := dir + "/" + name
			args := strings.Fields(strings.NewReplacer("IMG", img, "SRC", dir+"/src").Replace(line))
			fsystest.Need(t, args[0])
			fsystest.Run(t, args[0], args[1:]...)
			r := opened(t, img, 0)
			for _, f := range files {
				if f.Mode.IsDir() {
					continue
				}
				if got, err := fs.ReadFile(r, f.Path); err != nil || string(got) != string(f.Data) {
					t.Errorf("%s: %d bytes, %v", f.Path, len(got), err)
				}
			}
			if target, err := r.ReadLink("link"); err != nil || target != "sizes/../UPPER.TXT" {
				t.Errorf("link: %q, %v", target, err)
			}
			if b, err := fs.ReadFile(r, "link"); err != nil || string(b) != "8.3" {
				t.Errorf("through the link: %q, %v", b, err)
			}
		})
	}
}

// needsRecovery is the bit of an ext4 superblock's incompatible features
// that says that the journal waits to be replayed.
const needsRecovery = 0x4

// incompatOf reads the incompatible features of an ext4 superblock.
func incompatOf(t testing.TB, img string) uint32 {
	t.Helper()
	f, err := os.Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.ReadAt(b[:], 1024+0x60); err != nil {
		t.Fatal(err)
	}
	return binary.LittleEndian.Uint32(b[:])
}
