package fsys

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"b9/engine/tool"
)

// readerMakers make the same files in every file system that can be read.
func readerMakers(t *testing.T, files []File) map[string]func(img string) error {
	need(t, "mke2fs")
	return map[string]func(img string) error{
		"fat12": func(img string) error { return MakeVFAT(ctxOf(t), img, VFATOptions{}, files) },
		"fat16": func(img string) error { return MakeVFAT(ctxOf(t), img, VFATOptions{Size: 16 << 20}, files) },
		"fat32": func(img string) error { return MakeVFAT(ctxOf(t), img, VFATOptions{Size: 64 << 20, Bits: 32}, files) },
		"rockridge": func(img string) error {
			return MakeISO(ctxOf(t), img, ISOOptions{VolumeID: "cidata", Joliet: true, RockRidge: true}, files)
		},
		"joliet": func(img string) error {
			return MakeISO(ctxOf(t), img, ISOOptions{VolumeID: "cidata", Joliet: true}, jolietOnly(files))
		},
		"ext4": func(img string) error {
			return MakeExt4(ctxOf(t), img, Ext4Options{Size: 32 << 20}, FromFiles(files, time.Time{}))
		},
		"ext2": func(img string) error {
			o := Ext4Options{Size: 32 << 20, BlockSize: 1024, Features: []string{"^has_journal", "^extent", "^64bit", "^metadata_csum", "^filetype"}}
			return MakeExt4(ctxOf(t), img, o, FromFiles(files, time.Time{}))
		},
	}
}

// jolietOnly leaves out the names that Joliet cuts.
func jolietOnly(files []File) []File {
	return slices.DeleteFunc(slices.Clone(files), func(f File) bool {
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
				compareReader(t, opened(t)(OpenReader(at, off, 0)), want)
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
	write(t, img+".disk", strings.Repeat("\xff", int(off))+string(data))
	return img + ".disk"
}

func compareReader(t *testing.T, r Reader, files []File) {
	t.Helper()
	var names []string
	for _, f := range files {
		names = append(names, f.Path)
		if f.Mode.IsDir() {
			continue
		}
		got, err := fs.ReadFile(r, f.Path)
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		} else if string(got) != string(f.Data) {
			t.Errorf("%s: %d bytes, want %d", f.Path, len(got), len(f.Data))
		}
	}
	if _, err := r.Stat("../x"); err == nil {
		t.Error("a path out of the image is no error")
	}
	if _, err := r.Stat("absent/file"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if err := fstest.TestFS(r, names...); err != nil {
		t.Error(err)
	}
}

func TestReaderUnknown(t *testing.T) {
	p := t.TempDir() + "/x"
	write(t, p, strings.Repeat("x", 4096))
	_, err := OpenReader(p, 0, 0)
	wantError(t, err, "which cannot be read")
}

// listReader tells everything about an image in the words of listTar.
func listReader(t testing.TB, r Reader) string {
	t.Helper()
	var text strings.Builder
	first := map[uint64]string{}
	var visit func(p string)
	visit = func(p string) {
		info, err := r.Lstat(p)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(describe(t, r, p, info, first))
		if !info.IsDir() {
			return
		}
		list, err := r.ReadDir(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if e.Name() == "lost+found" {
				continue
			}
			child := e.Name()
			if p != "." {
				child = p + "/" + child
			}
			if got, err := e.Info(); err != nil || got.Mode().Type() != e.Type() {
				t.Errorf("%s: entry says %v, %v", child, e, err)
			}
			visit(child)
		}
	}
	visit(".")
	return text.String()
}

func describe(t testing.TB, r Reader, p string, info fs.FileInfo, first map[uint64]string) string {
	st := info.Sys().(*Attr)
	name, kind, link, size, sum := "./"+p, byte('0'), "", info.Size(), sha256.New()
	switch info.Mode().Type() {
	case fs.ModeDir:
		name, kind, size = "./"+p+"/", '5', 0
		if p == "." {
			name = "./"
		}
	case fs.ModeSymlink:
		target, err := r.ReadLink(p)
		if err != nil {
			t.Fatal(err)
		}
		kind, link, size = '2', target, 0
	case fs.ModeDevice:
		kind = '4'
	case fs.ModeDevice | fs.ModeCharDevice:
		kind = '3'
	case fs.ModeNamedPipe:
		kind = '6'
	case fs.ModeSocket:
		return ""
	}
	if st.Links > 1 && !info.IsDir() {
		if old, ok := first[st.Inode]; ok {
			kind, link, size = '1', old, 0
		} else {
			first[st.Inode] = name
		}
	}
	if kind == '0' {
		f, err := r.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(sum, f); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		f.Close()
	}
	mode, _ := unixMode(info.Mode())
	line := fmt.Sprintf("%q %c %o %d:%d %d %d.%d %q %d:%d %x", name, kind, mode&0o7777, st.UID, st.GID, size, info.ModTime().Unix(),
		info.ModTime().Nanosecond(), link, st.Major, st.Minor, sum.Sum(nil)[:8])
	list, err := r.Xattrs(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(list)) {
		line += fmt.Sprintf(" %q", k+"="+list[k])
	}
	return line + "\n"
}

// TestReaderSeesWhatTheKernelSees compares every attribute with a mount's.
func TestReaderSeesWhatTheKernelSees(t *testing.T) {
	need(t, "mke2fs", "tar")
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
			run(t, "mke2fs", append(append([]string{"-q", "-F"}, args...), img, "400M")...)
			fillMounted(t, img, dir+"/src")
			r := compareMounted(t, img, opened(t)(OpenReader(img, 0, 0)))
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
		write(t, fmt.Sprintf("%s/kernel/%0*d", mnt, 20+i%100, i), strings.Repeat("k", i%200))
	}
	for i := range 1000 {
		if i%3 != 0 {
			os.Remove(fmt.Sprintf("%s/kernel/%0*d", mnt, 20+i%100, i))
		}
	}
	writeSparse(t, mnt+"/holes", true)
	os.Symlink("/etc/../etc", mnt+"/absolute")
}

func compareMounted(t *testing.T, img string, r Reader) Reader {
	t.Helper()
	want := tarOf(t, mountImage(t, img))
	if got := listReader(t, r); sorted(got) != sorted(onlyXattrs(want)) {
		t.Error(firstDifference(sorted(onlyXattrs(want)), sorted(got)))
	}
	return r
}

// sorted orders the lines, and onlyXattrs writes attributes as describe does.
func sorted(s string) string {
	lines := strings.Split(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func onlyXattrs(s string) string {
	var out strings.Builder
	for _, line := range strings.SplitAfter(s, "\n") {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), " SCHILY.")
		out.WriteString(fields[0])
		for _, f := range fields[1:] {
			if rest, ok := strings.CutPrefix(f, "xattr."); ok {
				k, v, _ := strings.Cut(rest, "=")
				var value string
				fmt.Sscanf(v, "%q", &value)
				fmt.Fprintf(&out, " %q", k+"="+value)
			}
		}
		out.WriteString(line[len(strings.TrimSuffix(line, "\n")):])
	}
	return out.String()
}

// TestReaderReplaysJournal takes an image while it is mounted, right after a
// sync to the journal, and compares with what the kernel makes of it.
func TestReaderReplaysJournal(t *testing.T) {
	need(t, "mke2fs", "mount", "sync")
	needRoot(t)
	dir := t.TempDir()
	img, mnt := dir+"/live", dir+"/mnt"
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", img, "200M")
	os.Mkdir(mnt, 0o700)
	mountLoop(t, "loop", img, mnt)
	func() {
		defer unmountLoop(t, img, mnt)
		for i := range 500 {
			write(t, fmt.Sprintf("%s/d%d/f%d", mnt, i%10, i), strings.Repeat("x", i))
		}
		run(t, "sync", "-f", mnt)
		os.RemoveAll(mnt + "/d3")
		write(t, mnt+"/etc/passwd", "root:x:0:0\n")
		write(t, mnt+"/etc/passwd-", "root:x:0:0\n")
		os.Symlink("/etc/../etc", mnt+"/absolute")
		f, err := os.Open(mnt + "/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		f.Sync()
		f.Close()
		run(t, "cp", "--sparse=always", img, dir+"/copy")
	}()
	if incompatOf(t, dir+"/copy")&needsRecovery == 0 {
		t.Skip("the kernel had nothing left in the journal")
	}
	r, err := OpenReader(dir+"/copy", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := listReader(t, r)
	r.Close()
	run(t, "cp", dir+"/copy", dir+"/repaired")
	exec.Command(mustFind(t, "e2fsck"), "-fy", dir+"/repaired").Run()
	if want := listReader(t, compareMounted(t, dir+"/repaired", opened(t)(OpenReader(dir+"/repaired", 0, 0)))); got != want {
		t.Error(firstDifference(want, got))
	}
}

func mustFind(t testing.TB, name string) string {
	p, err := tool.Find(name)
	if err != nil {
		t.Skip(err)
	}
	return p
}

// TestReaderForeign reads what other tools made.
func TestReaderForeign(t *testing.T) {
	dir := t.TempDir()
	for _, f := range variedFiles() {
		if !f.Mode.IsDir() {
			write(t, filepath.Join(dir, "src", f.Path), string(f.Data))
		}
	}
	os.Symlink("sizes/../UPPER.TXT", dir+"/src/link")
	for name, line := range map[string]string{
		"genisoimage": "genisoimage -quiet -R -J -D -o IMG SRC",
		"relocated":   "genisoimage -quiet -R -o IMG SRC",
		"xorriso":     "xorriso -as mkisofs -quiet -R -o IMG SRC",
		"squashfs":    "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root",
		"xz":          "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp xz",
		"zstd":        "mksquashfs SRC IMG -quiet -no-progress -noappend -all-root -comp zstd -b 16384",
	} {
		t.Run(name, func(t *testing.T) {
			img := dir + "/" + name
			args := strings.Fields(strings.NewReplacer("IMG", img, "SRC", dir+"/src").Replace(line))
			need(t, args[0])
			run(t, args[0], args[1:]...)
			r, err := OpenReader(img, 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for _, f := range variedFiles() {
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

// opened is a reader that was opened without an error, for the time of the test.
func opened(t testing.TB) func(Reader, error) Reader {
	return func(r Reader, err error) Reader {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
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

// Many small directories are no reason to remember more and more.
func TestReaderForgetsDirectories(t *testing.T) {
	need(t, "mke2fs")
	img := t.TempDir() + "/x.img"
	var files []File
	for i := range 3 * keptDirectories {
		files = append(files, File{Path: fmt.Sprintf("d%d", i), Mode: fs.ModeDir | 0o755})
	}
	if err := MakeExt4(ctxOf(t), img, Ext4Options{Size: 16 << 20}, FromFiles(files, time.Unix(0, 0))); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReader(img, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		for _, f := range files {
			if _, err := r.ReadDir(f.Path); err != nil {
				t.Fatal(err)
			}
			if n := len(r.(*imageFS).dirs); n > keptDirectories {
				t.Fatalf("%d directories are remembered, want %d at most", n, keptDirectories)
			}
		}
	}
}
