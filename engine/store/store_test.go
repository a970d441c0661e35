package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
)

// open returns a new Store in dir that the test closes.
func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store { return open(t, filepath.Join(t.TempDir(), "store")) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// write makes a file with the content, and the directories to it.
func write(t testing.TB, path, content string) string {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

// adopt takes a file with the content into the store.
func adopt(t testing.TB, s *Store, content string) Object {
	t.Helper()
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	return must[Object](t)(s.Adopt(t.Context(), write(t, filepath.Join(c.Dir(), "f"), content)))
}

// adoptDir takes a tree with the files into the store.
func adoptDir(t testing.TB, s *Store, files map[string]string) Object {
	t.Helper()
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	dir := filepath.Join(c.Dir(), "d")
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return must[Object](t)(s.Adopt(t.Context(), dir))
}

// key makes a key out of a text.
func key(text string) (d Digest) {
	copy(d[:], fmt.Sprintf("%-32s", text))
	return d
}

func commit(t testing.TB, s *Store, name string, objs ...Object) Digest {
	t.Helper()
	r := &Record{Key: key(name), Label: "//t:" + name, Kind: "test/1", Started: time.Now()}
	for i, o := range objs {
		r.Outputs = append(r.Outputs, Output{fmt.Sprint(i), o})
	}
	check(t, s.Commit(r))
	return r.Key
}

// makeOld moves the last use of everything in the store back.
func makeOld(t testing.TB, s *Store, by time.Duration) {
	t.Helper()
	then := time.Now().Add(-by)
	for _, kind := range []string{objectsDir, treesDir, recordsDir} {
		check(t, s.eachStored(kind, func(path string, _ Digest, _ fs.FileInfo) error { return os.Chtimes(path, then, then) }))
	}
}

// sound fails the test unless the store has no damage.
func sound(t testing.TB, s *Store) VerifyReport {
	t.Helper()
	r := must[VerifyReport](t)(s.Verify(t.Context(), false))
	if len(r.Corrupt)+len(r.Missing) > 0 {
		t.Fatalf("damaged: %v %v", r.Corrupt, r.Missing)
	}
	return r
}

func TestOpenKeepsWhatIsThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "store")
	s := must[*Store](t)(Open(dir, Options{}))
	o := adopt(t, s, "hello")
	check(t, s.Close())
	check(t, s.Close())

	for range 20 {
		s = must[*Store](t)(Open(dir, Options{}))
		if !s.Has(o) {
			t.Fatal("object is gone")
		}
		check(t, s.Close())
	}
	if leases := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, leasesDir))); len(leases) > 2 {
		t.Errorf("%d lease files are left", len(leases))
	}
	if temps := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, scratchDir))); len(temps) > 0 {
		t.Errorf("scratch directories are left: %v", temps)
	}
}

// openOnce opens a store and closes it.
func openOnce(args []string) error {
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	return s.Close()
}

// callsOfOpen lists the system calls on files in dir by a process that opens
// the store there and closes it.
func callsOfOpen(t *testing.T, dir string) []string {
	t.Helper()
	child := childCommand(t, "open", dir)
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.CommandContext(t.Context(), "strace", append([]string{"-f", "-qq", "-y", "-e", "trace=%file,read,pread64,getdents64,flock,fsync,fdatasync,syncfs", "-o", trace}, child.Args...)...)
	cmd.Env = child.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var calls []string
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(trace)))) {
		if strings.Contains(line, dir) && !strings.Contains(line, "execve(") && !strings.Contains(line, " resumed>") {
			calls = append(calls, line)
		}
	}
	return calls
}

func TestOpenAsksLittleHoweverMuchIsThere(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	const most = 20
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {})
	empty := callsOfOpen(t, dir)
	s := must[*Store](t)(Open(dir, Options{NoSync: true}))
	for i := range 200 {
		commit(t, s, fmt.Sprint(i), adopt(t, s, fmt.Sprint(i)))
	}
	check(t, s.Close())
	full := callsOfOpen(t, dir)
	if len(empty) < 5 || len(empty) > most || len(full) > len(empty) {
		t.Errorf("opening and closing takes %d system calls on files of an empty store, and %d of 200 results; want at most %d, and no more for more results:\n%s",
			len(empty), len(full), most, strings.Join(full, ""))
	}
	for _, call := range full {
		if strings.Contains(call, "sync(") {
			t.Errorf("opening flushes: %s", call)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	foreign, shared := t.TempDir(), t.TempDir()
	check(t, os.Mkdir(filepath.Join(shared, "cache"), 0o700))
	write(t, filepath.Join(foreign, "thesis.tex"), "x")
	newer := t.TempDir()
	write(t, filepath.Join(newer, versionFile), "b9 store 2\n")
	file := write(t, filepath.Join(t.TempDir(), "f"), "")
	for _, c := range []struct{ dir, want string }{
		{foreign, `it holds "thesis.tex" and is no store: choose an empty directory`},
		{shared, `it holds "cache" and is no store: choose an empty directory`},
		{newer, `has format "b9 store 2\n" but this b9 needs "b9 store 1\n": choose another directory, or remove this one to start afresh`},
		{file, "not a directory"},
	} {
		_, err := Open(c.dir, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Open(%s) = %v, want %q", c.dir, err, c.want)
		}
	}
}

func TestOpenByManyAtOnce(t *testing.T) {
	for range 200 {
		dir := filepath.Join(t.TempDir(), "store")
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				s, err := Open(dir, Options{NoSync: true})
				if err != nil {
					return err
				}
				return s.Close()
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenCompletesAnInterruptedCreation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	check(t, os.MkdirAll(filepath.Join(dir, objectsDir, "00"), 0o700))
	s := open(t, dir)
	if o := adopt(t, s, "x"); !s.Has(o) {
		t.Error("the store does not work")
	}
}

func TestAdoptMovesAFileWithItsHoles(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("step"))
	defer c.Close()
	path := filepath.Join(c.Dir(), "image")
	f := must[*os.File](t)(os.Create(path))
	check(t, f.Truncate(1<<30))
	_, err := f.WriteAt([]byte("data"), 700<<20)
	check(t, err)
	check(t, f.Close())
	want, size, err := digest.Path(t.Context(), path, 0)
	check(t, err)
	before := must[os.FileInfo](t)(os.Stat(path))

	o := must[Object](t)(s.Adopt(t.Context(), path))
	if o != (Object{File, want, 1 << 30}) || size != 1<<30 {
		t.Errorf("adopted %v, want %v", o, want)
	}
	after := must[os.FileInfo](t)(os.Stat(s.Path(o.Digest)))
	if !os.SameFile(before, after) {
		t.Error("the data was copied")
	}
	if after.Mode() != 0o444 || allocated(after) > 1<<20 {
		t.Errorf("mode %v, %d bytes on the disk", after.Mode(), allocated(after))
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if !s.Has(o) || s.Has(Object{File, want, 5}) || s.Has(Object{File, Digest{1}, 5}) {
		t.Error("Has is wrong")
	}
}

func TestAdoptAgainDropsTheNewFileAndHealsATruncatedOne(t *testing.T) {
	s := newStore(t)
	o := adopt(t, s, "same")
	if again := adopt(t, s, "same"); again != o {
		t.Errorf("%v and %v", o, again)
	}
	check(t, os.Chmod(s.Path(o.Digest), 0o600))
	check(t, os.Truncate(s.Path(o.Digest), 1))
	if s.Has(o) {
		t.Error("a truncated object counts as there")
	}
	adopt(t, s, "same")
	if !s.Has(o) {
		t.Error("the object was not repaired")
	}
	sound(t, s)
}

func TestAdoptRefuses(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("step"))
	defer c.Close()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "victim"), "mine")
	check(t, os.Symlink(outside, filepath.Join(c.Dir(), "out")))
	check(t, os.Symlink("x", filepath.Join(c.Dir(), "link")))
	check(t, unix.Mkfifo(filepath.Join(c.Dir(), "pipe"), 0o600))
	for path, want := range map[string]string{
		filepath.Join(outside, "victim"):        "does not lie in a scratch directory",
		filepath.Join(c.Dir(), "out", "victim"): "does not lie in a scratch directory",
		c.Dir():                                 "does not lie in a scratch directory",
		filepath.Join(c.Dir(), "link"):          "neither a regular file nor a directory",
		filepath.Join(c.Dir(), "pipe"):          "neither a regular file nor a directory",
		filepath.Join(c.Dir(), "absent"):        "no such file",
	} {
		if _, err := s.Adopt(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Adopt(%s) = %v, want %q", path, err, want)
		}
	}
}

func TestAdoptLeavesNoOtherNameToWriteThrough(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("step"))
	defer c.Close()
	a := write(t, filepath.Join(c.Dir(), "a"), "content")
	b := filepath.Join(c.Dir(), "b")
	check(t, os.Link(a, b))
	o := must[Object](t)(s.Adopt(t.Context(), a))
	check(t, os.Chmod(b, 0o600))
	write(t, b, "changed")
	sound(t, s)
	if got := must[[]byte](t)(os.ReadFile(s.Path(o.Digest))); string(got) != "content" {
		t.Errorf("object holds %q", got)
	}
}

func TestImportAndFork(t *testing.T) {
	s := newStore(t)
	host := sparseFile(t, filepath.Join(t.TempDir(), "host.img"), 40<<20, 5)
	before := must[[]byte](t)(os.ReadFile(host))
	o := must[Object](t)(s.Import(t.Context(), host))
	dst := filepath.Join(t.TempDir(), "fork")
	check(t, s.Fork(t.Context(), o.Digest, dst))
	info := must[os.FileInfo](t)(os.Stat(dst))
	if info.Mode() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if a, b := allocatedAt(t, dst), allocatedAt(t, host); a > b {
		t.Errorf("fork occupies %d bytes, source %d", a, b)
	}
	if string(must[[]byte](t)(os.ReadFile(dst))) != string(before) {
		t.Error("fork differs")
	}
	if err := s.Fork(t.Context(), o.Digest, dst); !errors.Is(err, fs.ErrExist) {
		t.Errorf("fork over a file: %v", err)
	}
	if err := s.Fork(t.Context(), Digest{1}, dst+"2"); !errors.Is(err, ErrNotInStore) {
		t.Errorf("fork of nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Fork(ctx, o.Digest, dst+"3"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled fork: %v", err)
	}
	if _, err := os.Lstat(dst + "3"); err == nil {
		t.Error("a cancelled fork left its file")
	}
}

// sparseFile makes a file with runs of random data at random places.
func sparseFile(t testing.TB, path string, size int64, runs int) string {
	t.Helper()
	f := must[*os.File](t)(os.Create(path))
	defer f.Close()
	check(t, f.Truncate(size))
	r := rand.New(rand.NewPCG(uint64(size), uint64(runs)))
	for range runs {
		buf := make([]byte, min(size, 1+r.Int64N(300<<10)))
		for i := range buf {
			buf[i] = byte(r.Uint32())
		}
		_, err := f.WriteAt(buf, r.Int64N(size-int64(len(buf))+1))
		check(t, err)
	}
	return path
}

func allocatedAt(t testing.TB, path string) int64 {
	t.Helper()
	return allocated(must[os.FileInfo](t)(os.Stat(path)))
}

func TestDigestText(t *testing.T) {
	d := Digest{0xab, 1}
	if got := must[Digest](t)(ParseDigest(d.String())); got != d || d.IsZero() || !(Digest{}).IsZero() {
		t.Errorf("%v becomes %v", d, got)
	}
	for _, bad := range []string{"", "b3:", "b3:" + strings.Repeat("g", 64), "b3:" + strings.Repeat("AB", 32), "sha:" + strings.Repeat("00", 32), d.String() + "0"} {
		if _, err := ParseDigest(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
