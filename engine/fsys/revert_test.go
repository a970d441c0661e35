package fsys

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/sparse"
)

// mountable are the file systems of a container's images: how each is made, and the
// options of its mount there.
func mountable() map[string][2]string {
	const ext, xfs, btrfs = "loop,noatime,nobarrier,discard,noinit_itable", "loop,noatime,nouuid,discard", "loop,noatime,nobarrier,discard"
	return map[string][2]string{
		"ext2":               {"mke2fs -q -F -t ext2", ext},
		"ext3":               {"mke2fs -q -F -t ext3", ext},
		"ext4":               {"mke2fs -q -F -t ext4", ext},
		"ext4 1 KiB":         {"mke2fs -q -F -t ext4 -b 1024", ext},
		"ext4 no journal":    {"mke2fs -q -F -t ext4 -O ^has_journal", ext},
		"ext4 bigalloc":      {"mke2fs -q -F -t ext4 -O bigalloc", ext},
		"ext4 inline":        {"mke2fs -q -F -t ext4 -O inline_data", ext},
		"xfs":                {"mkfs.xfs -q", xfs},
		"xfs 1 KiB":          {"mkfs.xfs -q -b size=1024", xfs},
		"xfs 4 KiB sectors":  {"mkfs.xfs -q -s size=4096", xfs},
		"xfs of old":         {"mkfs.xfs -q -m bigtime=0,inobtcount=0,reflink=0", xfs},
		"xfs rmap":           {"mkfs.xfs -q -m rmapbt=1", xfs},
		"btrfs":              {"mkfs.btrfs -q", btrfs},
		"btrfs single":       {"mkfs.btrfs -q -m single", btrfs},
		"btrfs xxhash":       {"mkfs.btrfs -q --csum xxhash", btrfs},
		"btrfs small blocks": {"mkfs.btrfs -q -n 4096", btrfs},
	}
}

// untouched makes an image of a kind with files in it, or without a mount so far.
func untouched(t testing.TB, kind [2]string, filled bool) string {
	t.Helper()
	img := t.TempDir() + "/before"
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	size := int64(24 << 20)
	if strings.HasPrefix(kind[0], "mkfs") {
		size = 320 << 20 // their least
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields(kind[0]), img)
	fsystest.Need(t, args[0], "mount")
	fsystest.Run(t, args[0], args[1:]...)
	if filled {
		visitAs(t, kind[1], img, func(mnt string) {
			fsystest.Write(t, mnt+"/big", strings.Repeat("0123456789abcde\n", 200_000))
			fsystest.Write(t, mnt+"/d/small", "small")
			for _, err := range []error{os.Symlink("d/small", mnt+"/link"), os.Link(mnt+"/big", mnt+"/d/two"), unix.Setxattr(mnt+"/d", "user.b9", []byte("x"), 0)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	return img
}

// contents is a sum of what is not zero in an image, and where. It reads no holes.
func contents(t testing.TB, path string) string {
	t.Helper()
	f, info, err := sparse.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h, b := sha256.New(), make([]byte, 4096)
	for off := int64(0); off < info.Size(); {
		from, to, err := sparse.Run(f, off, info.Size())
		for at := from / 4096 * 4096; err == nil && at < to; at += 4096 {
			if _, err = f.ReadAt(b, at); err == nil && !sparse.IsZero(b) {
				fmt.Fprintf(h, "%d %s", at, b)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		off = to
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func equal(t testing.TB, a, b string) {
	t.Helper()
	if contents(t, a) != contents(t, b) {
		t.Errorf("%s and %s differ", a, b)
	}
}

// visitAs mounts an image for do, with options.
func visitAs(t testing.TB, options, img string, do func(mnt string)) {
	t.Helper()
	mnt := t.TempDir()
	mountLoop(t, options, img, mnt)
	defer unmountLoop(t, img, mnt)
	do(mnt)
}

// TestRevert: what was mounted writable, and read, has its old bytes again; what
// shows a difference to whoever mounts it stays as it is.
func TestRevert(t *testing.T) {
	fsystest.NeedRoot(t)
	for name, kind := range mountable() {
		for _, filled := range []bool{true, false} {
			if !filled && strings.HasPrefix(name, "ext") {
				continue // mke2fs leaves what a kernel leaves
			}
			t.Run(fmt.Sprintf("%s filled=%v", name, filled), func(t *testing.T) {
				before := untouched(t, kind, filled)
				after := filepath.Dir(before) + "/after"
				fsystest.Run(t, "cp", "--sparse=always", before, after)
				for range 2 {
					visitAs(t, kind[1], after, func(mnt string) { fsystest.Run(t, "find", mnt, "-type", "f", "-readable") })
				}
				if same, err := Revert(t.Context(), image(t, before), after, nil); err != nil || !same {
					t.Errorf("%v, %v", same, err)
				}
				equal(t, before, after)
				visitAs(t, kind[1], after, func(mnt string) { fsystest.Write(t, mnt+"/new", "x") })
				written := contents(t, after)
				if same, err := Revert(t.Context(), image(t, before), after, nil); err != nil || same {
					t.Errorf("with a new file: %v, %v", same, err)
				}
				if contents(t, after) != written {
					t.Error("an image that was written to is another one")
				}
			})
		}
	}
}

// written lists the blocks of 64 KiB in which two images differ.
func written(t testing.TB, before, after string) Parts {
	t.Helper()
	a, b, parts := image(t, before), image(t, after), Parts{}
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < b.Size(); off += int64(len(y)) {
		n, _ := a.ReadAt(x, off)
		m, _ := b.ReadAt(y, off)
		if !bytes.Equal(x[:n], y[:m]) {
			parts = append(parts, [2]int64{off, off + int64(m)})
		}
	}
	return parts
}

// TestRevertReadsWhatWasWritten: elsewhere it sees no difference, even if there is one.
func TestRevertReadsWhatWasWritten(t *testing.T) {
	fsystest.NeedRoot(t)
	before := untouched(t, mountable()["ext4"], true)
	after := filepath.Dir(before) + "/after"
	fsystest.Run(t, "cp", "--sparse=always", before, after)
	f, err := os.OpenFile(after, os.O_RDWR, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("x"), image(t, before).Size()-1)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	left := sum(t, after)
	if same, err := Revert(t.Context(), image(t, before), after, Parts{}); err != nil || !same || sum(t, after) != left {
		t.Errorf("%v, %v, or what was not written has changed", same, err)
	}
	if same, err := Revert(t.Context(), image(t, before), after, written(t, before, after)); err != nil || !same || sum(t, after) == left {
		t.Errorf("%v, %v, or what was written has stayed", same, err)
	}
}

// TestRevertAfterRandomChanges compares the verdict with what mounts of both images
// show, after changes that hide as well as they can: they keep size and times,
// go round the page cache, or come through a mapping.
func TestRevertAfterRandomChanges(t *testing.T) {
	fsystest.NeedRoot(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewSource(seed))
	for name, kind := range mountable() {
		t.Run(name, func(t *testing.T) {
			before := untouched(t, kind, true)
			var want string
			visitAs(t, kind[1]+",ro", before, func(mnt string) { want = mounted(t, mnt) })
			for range 3 {
				after := filepath.Dir(before) + "/after"
				fsystest.Run(t, "cp", "--sparse=always", before, after)
				var changes []string
				visitAs(t, kind[1], after, func(mnt string) {
					for range 1 + rnd.Intn(3) {
						changes = append(changes, disturb(t, rnd, mnt))
					}
				})
				var got string
				visitAs(t, kind[1]+",ro", after, func(mnt string) { got = mounted(t, mnt) })
				left := contents(t, after)
				told, parts := after+".told", written(t, before, after)
				fsystest.Run(t, "cp", "--sparse=always", after, told)
				same, err := Revert(t.Context(), image(t, before), after, nil)
				if err != nil {
					t.Fatal(err)
				}
				if again, err := Revert(t.Context(), image(t, before), told, parts); err != nil || again != same || sum(t, told) != sum(t, after) {
					t.Errorf("%q: where it was told what was written, %v, %v, and not %v", changes, again, err, same)
				}
				if same && got != want {
					t.Fatalf("%q: called the same, but %s", changes, firstDifference(want, got))
				}
				if !same && got == want && strings.HasPrefix(kind[0], "mke2fs") {
					t.Errorf("%q: called another one, and is the same", changes)
				}
				if same {
					equal(t, before, after)
				} else if contents(t, after) != left {
					t.Errorf("%q: changed an image that is another one", changes)
				}
			}
		})
	}
}

// disturb makes one change below mnt, or one that is undone again, and tells which.
func disturb(t testing.TB, rnd *rand.Rand, mnt string) string {
	t.Helper()
	big := mnt + "/big"
	info, err := os.Stat(big)
	if err != nil {
		return "nothing, for there is no file"
	}
	keep := func(err error) {
		if err == nil {
			err = os.Chtimes(big, info.ModTime(), info.ModTime())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at := rnd.Int63n(info.Size()-8192) / 4096 * 4096
	switch n := rnd.Intn(10); n {
	case 0, 1:
		flags := os.O_RDWR
		if n == 1 {
			flags |= unix.O_DIRECT
		}
		keep(writeAt(big, flags, at, byte(rnd.Intn(256))))
		return fmt.Sprintf("written at %d, flags %#x", at, flags)
	case 2:
		keep(mapped(big, at, byte(rnd.Intn(256))))
		return "written through a mapping"
	case 3:
		keep(os.Truncate(big, info.Size()-1))
		keep(os.Truncate(big, info.Size()))
		return "truncated and back"
	case 4:
		fsystest.Write(t, mnt+"/tmp", strings.Repeat("t", rnd.Intn(1<<20)))
		fsystest.Run(t, "sync", "-f", mnt)
		if err := os.Remove(mnt + "/tmp"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(mnt, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		return "a file that is gone again, and another time"
	case 5:
		keep(os.Chmod(big, info.Mode()^0o111))
		return "a mode"
	case 6:
		keep(unix.Setxattr(big, "user.b9", []byte{byte(rnd.Intn(256))}, 0))
		return "an attribute"
	case 7:
		done(t, os.Rename(big, mnt+"/large"))
		keep(os.Rename(mnt+"/large", big))
		return "renamed and back"
	case 8:
		done(t, os.Chtimes(big, time.Now(), info.ModTime()))
		return "an access time"
	}
	done(t, exec.Command("fallocate", "--punch-hole", "--offset", fmt.Sprint(at), "--length", "4096", big).Run())
	keep(nil)
	return "a hole"
}

func done(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// writeAt overwrites a block in place.
func writeAt(path string, flags int, at int64, with byte) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	for i := range b {
		b[i] = with
	}
	_, err = f.WriteAt(b, at)
	return err
}

// mapped overwrites a byte through a mapping.
func mapped(path string, at int64, with byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), at, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	b[17] = with
	return unix.Munmap(b)
}

// mounted tells everything of a mounted tree but access and change times.
func mounted(t testing.TB, mnt string) string {
	t.Helper()
	var text strings.Builder
	err := filepath.WalkDir(mnt, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		size := st.Size
		if d.IsDir() {
			size = 0
		}
		fmt.Fprintf(&text, "%s %o %d:%d %d %d.%d %d %d %q", p[len(mnt):], st.Mode, st.Uid, st.Gid, size, st.Mtim.Sec, st.Mtim.Nsec, st.Nlink, st.Rdev, xattrs(p))
		switch {
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, " %x", sha256.Sum256(b))
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			text.WriteString(" " + to)
		}
		text.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func xattrs(path string) string {
	b := make([]byte, 4096)
	n, err := unix.Llistxattr(path, b)
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for name := range strings.SplitSeq(string(b[:n]), "\x00") {
		value := make([]byte, 4096)
		if n, err := unix.Lgetxattr(path, name, value); err == nil {
			fmt.Fprintf(&text, "%s=%x ", name, value[:n])
		}
	}
	return text.String()
}

// TestRestore gives xfs and btrfs their old bytes after writes that are said to have
// left no trace in files, unless something else is another one.
func TestRestore(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.xfs", "mkfs.btrfs", "mke2fs", "mount", "cp", "btrfs", "xfs_admin")
	undone := func(mnt string) {
		fsystest.Write(t, mnt+"/new", "x")
		fsystest.Run(t, "rm", mnt+"/new")
	}
	btrfs := func(args ...string) func(string) {
		return func(mnt string) {
			args := slices.Clone(args)
			for i, arg := range args {
				if strings.HasPrefix(arg, "/") {
					args[i] = mnt + arg
				}
			}
			fsystest.Run(t, "btrfs", args...)
		}
	}
	for _, c := range []struct {
		make   []string
		change func(mnt string)
		after  []string
		want   bool
	}{
		{[]string{"mkfs.xfs", "-q"}, undone, nil, true},
		{[]string{"mkfs.xfs", "-q"}, undone, []string{"xfs_admin", "-L", "other"}, false},
		{[]string{"mkfs.btrfs", "-q"}, undone, nil, true},
		{[]string{"mkfs.btrfs", "-q"}, undone, []string{"btrfs", "filesystem", "label", "IMAGE", "other"}, false},
		{[]string{"mkfs.btrfs", "-q"}, btrfs("property", "set", "-ts", "/sub", "ro", "true"), nil, false},
		{[]string{"mkfs.btrfs", "-q"}, btrfs("subvolume", "create", "/another"), nil, false},
		{[]string{"mkfs.btrfs", "-q"}, btrfs("subvolume", "set-default", "/sub"), nil, false},
		{[]string{"mke2fs", "-q", "-t", "ext4"}, undone, nil, false},
	} {
		before := t.TempDir() + "/before"
		after := before + ".after"
		fsystest.Run(t, "truncate", "-s", "320M", before)
		fsystest.Run(t, c.make[0], append(slices.Clone(c.make[1:]), before)...)
		if c.make[0] == "mkfs.btrfs" {
			visit(t, before, btrfs("subvolume", "create", "/sub"))
		}
		fsystest.Run(t, "cp", "--sparse=always", before, after)
		visit(t, after, c.change)
		if args := slices.Clone(c.after); args != nil {
			if i := slices.Index(args, "IMAGE"); i >= 0 {
				args[i] = after
			} else {
				args = append(args, after)
			}
			fsystest.Run(t, args[0], args[1:]...)
		}
		b := image(t, before)
		same, err := Restore(t.Context(), b, after, nil)
		if err := errors.Join(err, b.Close()); err != nil || same != c.want {
			t.Errorf("%q %v: %v, %v", c.make, c.after, same, err)
		}
		if same {
			sameBytes(t, before, after)
		}
	}
}

// TestRevertReadsNoReflinks: on a file system that shares blocks only what was written
// is read.
func TestRevertReadsNoReflinks(t *testing.T) {
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mkfs.xfs", "mkfs.btrfs", "mke2fs", "mount", "cp")
	for _, make := range []string{"mkfs.xfs", "mkfs.btrfs"} {
		t.Run(make, func(t *testing.T) {
			dir := t.TempDir()
			host, img := dir+"/host", dir+"/before"
			fsystest.Run(t, "truncate", "-s", "400M", host)
			fsystest.Run(t, make, "-q", host)
			fsystest.Run(t, "truncate", "-s", "64M", img)
			fsystest.Run(t, "mke2fs", "-q", "-F", "-t", "ext4", img)
			visit(t, img, func(mnt string) { fsystest.Write(t, mnt+"/f", strings.Repeat("x", 30<<20)) })
			visit(t, host, func(mnt string) {
				before, after := mnt+"/before", mnt+"/after"
				fsystest.Run(t, "cp", "--sparse=always", img, before)
				fsystest.Run(t, "cp", "--reflink=always", before, after)
				visit(t, after, func(string) {})
				b := &counted{hostFile: image(t, before).(hostFile)}
				defer b.Close()
				if same, err := Revert(t.Context(), b, after, nil); err != nil || !same {
					t.Errorf("%v, %v", same, err)
				}
				sameBytes(t, before, after)
				if b.read > 12<<20 {
					t.Errorf("it read %d bytes of 64 MiB", b.read)
				}
				if err := writeAt(after, os.O_RDWR, 20<<20, 1); err != nil { // not on the disk yet
					t.Fatal(err)
				}
				if sum(t, before) == sum(t, after) {
					t.Fatal("nothing was written")
				}
				if same, err := Revert(t.Context(), b, after, nil); err != nil || same && sum(t, before) != sum(t, after) {
					t.Errorf("after a write: %v, %v", same, err)
				}
			})
		})
	}
}

type hostFile interface {
	blob.Blob
	Fd() uintptr
	Stat() (fs.FileInfo, error)
}

// counted counts what is read of an image.
type counted struct {
	hostFile
	read int64
}

func (c *counted) ReadAt(b []byte, off int64) (int, error) {
	c.read += int64(len(b))
	return c.hostFile.ReadAt(b, off)
}
