package newfile

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestWrite(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"first", "second"} { // of no file, and of one that is there
		err := Write(dst, 0o600, true, func(f *os.File) error {
			if f.Name() != dst {
				t.Errorf("the file is called %s", f.Name())
			}
			_, err := f.WriteString(text)
			return err
		})
		got, rerr := os.ReadFile(dst)
		if err != nil || rerr != nil || string(got) != text {
			t.Errorf("%q, %v, %v", got, err, rerr)
		}
	}
	if st, err := os.Stat(dst); err != nil || st.Mode() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	bad := errors.New("bad")
	if err := Write(dst, 0o600, false, func(*os.File) error { return bad }); err != bad {
		t.Errorf("the error is %v", err)
	}
	if got, _ := os.ReadFile(dst); string(got) != "second" || names(t, filepath.Dir(dst)) != "f" {
		t.Errorf("after an error: %q, and in the directory %s", got, names(t, filepath.Dir(dst)))
	}
}

// TestWhatIsNoFileIsNotReplaced: whoever writes to /dev/null or /dev/stdout must not find
// a file there afterwards.
func TestWhatIsNoFileIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	pipe, link, null := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "null")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Symlink("absent", link)); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{dir: "a directory", pipe: "a pipe", link: "a symbolic link"}
	if syscall.Mknod(null, syscall.S_IFCHR|0o600, 1<<8|3) == nil { // needs root
		want[null] = "a device"
	}
	before := names(t, dir)
	for dst, what := range want {
		was, _ := os.Lstat(dst)
		err := Write(dst, 0o600, false, func(*os.File) error { return nil })
		if now, lerr := os.Lstat(dst); err == nil || !strings.Contains(err.Error(), what) || lerr != nil || now.Mode() != was.Mode() {
			t.Errorf("%s: %v; now it is %v, %v", what, err, now.Mode(), lerr)
		}
	}
	if names(t, dir) != before {
		t.Errorf("the directory has %s", names(t, dir))
	}
}

// TestNamed is the way of file systems without O_TMPFILE.
func TestNamed(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "f")
	w, temp, err := named(dst, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if got, err := name(w, temp, dst); err != nil || got != temp || names(t, filepath.Dir(dst)) != filepath.Base(temp) {
		t.Errorf("%s, %v, and in the directory %s", got, err, names(t, filepath.Dir(dst)))
	}
}

// TestNothingStaysAfterAKill kills a process while it writes.
func TestNothingStaysAfterAKill(t *testing.T) {
	if dst := os.Getenv("NEWFILE_TEST_DST"); dst != "" {
		err := Write(dst, 0o600, false, func(f *os.File) error {
			f.WriteString("half")
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				return err
			}
			select {} // until the signal has come
		})
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, _, err := nameless(filepath.Join(dir, "probe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if names(t, dir) != "" {
		t.Skip("the file system has no O_TMPFILE")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingStaysAfterAKill$")
	cmd.Env = append(os.Environ(), "NEWFILE_TEST_DST="+filepath.Join(dir, "f"))
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("%v: %s", err, out)
	}
	if got := names(t, dir); got != "" {
		t.Errorf("it left %s", got)
	}
}

// TestSyncDirWhereThatCanNotBeDone asks for what a file system refuses, as those of
// some networks do.
func TestSyncDirWhereThatCanNotBeDone(t *testing.T) {
	d, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("/proc can be flushed, or fails otherwise: %v", err)
	}
	if err := SyncDir("/proc"); err != nil {
		t.Error(err)
	}
	if err := SyncDir(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestWriteNew writes a file that is not there, with and without files that have no
// name, and leaves what is there.
func TestWriteNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	text := func(s string) func(*os.File) error {
		return func(f *os.File) error { _, err := f.WriteString(s); return err }
	}
	broken := errors.New("broken")
	if err := WriteNew(path, 0o640, func(f *os.File) error { return errors.Join(text("half")(f), broken) }); !errors.Is(err, broken) {
		t.Errorf("fill fails: %v", err)
	}
	if list, err := os.ReadDir(dir); len(list) != 0 || err != nil {
		t.Errorf("left: %v, %v", list, err)
	}
	if err := WriteNew(path, 0o640, text("first")); err != nil {
		t.Fatal(err)
	}
	// Another process may be first between the look and the end.
	late := filepath.Join(dir, "b")
	err := WriteNew(late, 0o640, func(f *os.File) error {
		return errors.Join(text("second")(f), os.WriteFile(late, []byte("first"), 0o600))
	})
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("another was first: %v", err)
	}
	if err := WriteNew(path, 0o640, text("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("it is there: %v", err)
	}
	for _, path := range []string{path, late} {
		if data, err := os.ReadFile(path); string(data) != "first" {
			t.Errorf("%s holds %q, %v", path, data, err)
		}
	}
	if list, err := os.ReadDir(dir); len(list) != 2 || err != nil {
		t.Errorf("left: %v, %v", list, err)
	}
}
