package tree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/fsystest"
)

// names lists a tree, a line for every inode: its path, type, links and size.
func names(t *Tree) string {
	var out strings.Builder
	_ = t.Walk(func(p string, n *Inode) error {
		fmt.Fprintf(&out, "%s %v %d %d\n", p, FileMode(n.Mode), n.Links, n.Size)
		return nil
	})
	return out.String()
}

// TestFromFiles sorts names, makes the directories above them and counts links.
func TestFromFiles(t *testing.T) {
	files := []File{{Path: "/b/two", Data: []byte("22")}, {Path: "a", Mode: fs.ModeSymlink, Link: "b/two"}, {Path: "b/hard", Link: "b/two"}}
	got, err := FromFiles(files, time.Time{}).Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	const want = " drwxr-xr-x 3 0\n/a Lrwxrwxrwx 1 5\n/b drwxr-xr-x 2 0\n/b/hard -rw-r--r-- 2 2\n"
	if names(got) != want {
		t.Errorf("got\n%swant\n%s", names(got), want)
	}
}

func TestFromFilesRefuses(t *testing.T) {
	for want, files := range map[string][]File{
		"two entries":             {{Path: "a"}, {Path: "./a"}},
		`must not contain ".."`:   {{Path: "a/../b"}},
		"is longer than 255":      {{Path: strings.Repeat("n", 256)}},
		"NUL":                     {{Path: "a\x00b"}},
		"is not there":            {{Path: "a", Link: "absent"}},
		"is not a directory":      {{Path: "a"}, {Path: "a/b"}},
		"owner -1:0":              {{Path: "a", UID: -1}},
		"size -1":                 {{Path: "a", Size: -1, Open: func() (io.ReadCloser, error) { return nil, nil }}},
		"unknown file type":       {{Path: "a", Mode: fs.ModeIrregular}},
		"its target \"d\" is a d": {{Path: "d/x"}, {Path: "a", Link: "d"}},
	} {
		_, err := FromFiles(files, time.Time{}).Load(t.Context(), "")
		fsystest.WantError(t, err, want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("no longer wanted"))
	_, err := FromFiles([]File{{Path: "a"}}, time.Time{}).Load(ctx, "")
	fsystest.WantError(t, err, "no longer wanted")
}

// TestDigest names a tree by its attributes, and not by the order of its files.
func TestDigest(t *testing.T) {
	digest := func(files ...File) [32]byte {
		tr, err := FromFiles(files, time.Time{}).Load(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		return tr.Digest()
	}
	a, b := File{Path: "a", Data: []byte("1")}, File{Path: "b", Data: []byte("2")}
	if digest(a, b) != digest(b, a) {
		t.Error("the order of files counts")
	}
	for what, other := range map[string]File{"mode": {Path: "b", Data: b.Data, Mode: 0o600}, "owner": {Path: "b", Data: b.Data, UID: 1},
		"size": {Path: "b", Data: []byte("22")}, "attributes": {Path: "b", Data: b.Data, Xattrs: map[string]string{"user.a": "v"}}} {
		if digest(a, b) == digest(a, other) {
			t.Errorf("the %s does not count", what)
		}
	}
}

// TestModes translates there and back.
func TestModes(t *testing.T) {
	for _, m := range []fs.FileMode{0o640, fs.ModeDir | 0o755, fs.ModeSymlink | 0o777, fs.ModeDevice | 0o600, fs.ModeDevice | fs.ModeCharDevice | 0o600,
		fs.ModeNamedPipe | 0o600, fs.ModeSocket | 0o700, fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky | 0o111} {
		n, err := UnixMode(m)
		if err != nil || FileMode(n) != m {
			t.Errorf("%v becomes %#o and %v, %v", m, n, FileMode(n), err)
		}
	}
	if m := FileMode(0o644); m&fs.ModeIrregular == 0 {
		t.Errorf("no type at all becomes %v", m)
	}
}

// TestMakeFails leaves no file behind after an error, but one that was there.
func TestMakeFails(t *testing.T) {
	dir := t.TempDir()
	fsystest.Write(t, dir+"/old", "old")
	for _, p := range []string{dir + "/new", dir + "/old"} {
		for _, write := range []error{nil, errors.New("no room")} {
			plan := func(*Tree) (func(*os.File) error, error) {
				if write == nil {
					return nil, errors.New("no room")
				}
				return func(f *os.File) error { return errors.Join(f.Truncate(1), write) }, nil
			}
			fsystest.WantError(t, Make(t.Context(), p, "fs", nil, func() error { return nil }, plan), "fs: no room")
		}
	}
	fsystest.Gone(t, dir+"/new")
	if b, err := os.ReadFile(dir + "/old"); err != nil || string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	err := Make(t.Context(), dir+"/new", "fs", FromDir(dir+"/absent"), func() error { return nil }, nil)
	fsystest.WantError(t, err, "fs: ", "absent")
	err = Make(t.Context(), dir+"/new", "fs", nil, func() error { return errors.New("no label") }, nil)
	fsystest.WantError(t, err, "fs: no label")
	fsystest.Gone(t, dir+"/new")
}

// TestHolesAreSkipped asks the files of a directory where their data begins.
func TestHolesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("end"), 8<<20); err != nil {
		t.Fatal(err)
	}
	tr, err := FromDir(dir).Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	in, err := tr.Root.Entries[0].Inode.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	next, err := in.(HoleSkipper).NextData(0)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(in)
	if err != nil || next+int64(len(rest)) != 8<<20+3 || !bytes.HasSuffix(rest, []byte("end")) {
		t.Errorf("data begins at %d, %d bytes follow, %v", next, len(rest), err)
	}
	if next == 0 {
		t.Skip("the temporary directory's file system has no holes")
	}
}

// TestWhoReadsADirectoryDoesNotCount reads one as root and as another user, who
// owns a file of it.
func TestWhoReadsADirectoryDoesNotCount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("changing the user needs root")
	}
	const nobody = 65534
	dir := t.TempDir()
	for at := dir; at != os.TempDir(); at = filepath.Dir(at) { // whose own are root's alone
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, owner := range map[string]int{"of-user": nobody, "of-other": 33} {
		path := filepath.Join(dir, name)
		fsystest.Write(t, path, name)
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	owners := func(user int) string {
		done := make(chan string)
		go func() {
			runtime.LockOSThread() // and never unlocks it: the thread ends with the goroutine
			if _, _, err := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(user), ^uintptr(0)); err != 0 {
				done <- err.Error()
				return
			}
			tr, err := FromDir(dir).Load(context.Background(), "")
			if err != nil {
				done <- err.Error()
				return
			}
			var list []string
			for _, e := range tr.Root.Entries {
				list = append(list, fmt.Sprintf("%s %d:%d", e.Name, e.Inode.UID, e.Inode.GID))
			}
			done <- strings.Join(list, ", ")
		}()
		return <-done
	}
	if got := owners(0); got != "of-other 33:33, of-user 65534:65534" {
		t.Errorf("as root: %s", got)
	}
	if got := owners(nobody); got != "of-other 33:33, of-user 0:0" {
		t.Errorf("as another user: %s", got)
	}
}

// TestFromTarLastWins lets later entries replace earlier ones.
func TestFromTarLastWins(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, text := range []string{"first", "last one"} {
		if err := w.WriteHeader(&tar.Header{Name: "d/f", Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o600}); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "a.tar")
	fsystest.Write(t, p, b.String())
	c := FromTarFile(p)
	defer c.Close()
	tr, err := c.Load(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in, err := tr.Root.Entries[0].Inode.Entries[0].Inode.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.ReadAll(in); err != nil || string(got) != "last one" {
		t.Errorf("%q, %v", got, err)
	}
}
