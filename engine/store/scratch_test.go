package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

func TestScratchGoesWithWhateverIsInIt(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("//a/b:c d"))
	write(t, filepath.Join(c.Dir(), "ro/f"), "x")
	check(t, os.Chmod(filepath.Join(c.Dir(), "ro"), 0o500))
	check(t, c.Close())
	check(t, c.Close())
	if _, err := os.Lstat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestScratchIsNotRemovedUnderAMount(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("step"))
	precious := write(t, filepath.Join(t.TempDir(), "precious"), "x")
	at := filepath.Join(c.Dir(), "a b")
	check(t, os.Mkdir(at, 0o700))
	if err := unix.Mount(filepath.Dir(precious), at, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("mounting needs root: %v", err)
	}
	err := c.Close()
	check(t, unix.Unmount(at, 0))
	if err == nil || !strings.Contains(err.Error(), at+" is mounted: unmount it first") {
		t.Errorf("close: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Fatal(err)
	}
	check(t, s.Reap())
	if _, err := os.Lstat(c.Dir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reap left it: %v", err)
	}
}

func TestReapSparesTheLiving(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("live"))
	defer c.Close()
	dead := filepath.Join(s.dir, scratchDir, "dead")
	write(t, filepath.Join(dead, "d/f"), "x")
	check(t, open(t, s.dir).Reap())
	if _, err := os.Stat(c.Dir()); err != nil {
		t.Errorf("a live one is gone: %v", err)
	}
	if _, err := os.Stat(dead); err == nil {
		t.Error("a dead one is left")
	}
}

func TestFailedSteps(t *testing.T) {
	began := time.Now().Add(-time.Second) // file systems may count whole seconds
	s := newStore(t)
	long := strings.Repeat("long/", 100)
	for _, name := range []string{"//a/b:c", "//a/b:c", "..", "", long} {
		c := must[*Scratch](t)(s.Scratch("x"))
		write(t, filepath.Join(c.Dir(), "image"), name)
		dir := must[string](t)(c.Keep(name))
		if got := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "image"))); string(got) != name {
			t.Errorf("%q holds %q", name, got)
		}
		check(t, c.Close())
		if _, err := c.Keep(name); err == nil {
			t.Error("a closed one is kept")
		}
	}
	steps := must[[]FailedStep](t)(s.Failed())
	if len(steps) != 4 || !strings.HasPrefix(steps[0].Name, "long/") || steps[3].Name != "//a/b:c" || steps[0].Time.Before(began) {
		t.Errorf("steps %+v", steps)
	}
	unlock, err := s.LockFailed("//a/b:c")
	check(t, err)
	if err := s.DropFailed("//a/b:c"); !errors.Is(err, ErrInUse) {
		t.Errorf("drop of a locked one: %v", err)
	}
	unlock()
	for _, f := range steps {
		check(t, s.DropFailed(f.Name))
	}
	check(t, s.DropFailed("never there"))
	if steps := must[[]FailedStep](t)(s.Failed()); len(steps) != 0 {
		t.Errorf("left: %+v", steps)
	}
}

// Builds in which the same step fails at the same time do not fail on that.
func TestKeepTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	var wg sync.WaitGroup
	for i := range 4 {
		s := open(t, dir)
		wg.Go(func() {
			for range 25 {
				c, err := s.Scratch("x")
				if err == nil {
					err = os.WriteFile(filepath.Join(c.Dir(), "f"), []byte{byte(i)}, 0o600)
				}
				if err == nil {
					_, err = c.Keep("//x")
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	steps := must[[]FailedStep](t)(open(t, dir).Failed())
	if len(steps) != 1 {
		t.Fatalf("kept %v", steps)
	}
	if _, err := os.Stat(filepath.Join(steps[0].Dir, "f")); err != nil {
		t.Error(err)
	}
}

func TestEscapeName(t *testing.T) {
	seen := map[string]string{}
	for in, want := range map[string]string{
		"//examples/web.star:step (image)": "examples+web.star:step~{image}",
		"//a-b_c:d@e":                      "a-b_c:d@e", "@b9//lib:x": "=@b9++lib:x",
		"": "=", "/": "=+", "//": "%", "///": "+", "////": "++", "x": "=x", "//x": "x", "//=x": "%3Dx", "=x": "==x", "//%": "%25", "%": "=%25",
		"..": "=..", "//..": "%2E.", "//a.b": "a.b", "a/b": "=a+b", "//+~{}": "%2B%7E%7B%7D", "//é": "é", "//a\nb\x00": "a%0Ab%00",
		"//\xff": "%FF", "//\u202e": "%E2%80%AE", "//$(x)'\"`;&|<>*?[]\\,#!": "%24{x}%27%22%60%3B%26%7C%3C%3E%2A%3F%5B%5D%5C%2C%23%21",
	} {
		got := escapeName(in, 200)
		if got != want || unescapeName(got) != in {
			t.Errorf("%q becomes %q and %q, want %q", in, got, unescapeName(got), want)
		}
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q both become %q", in, other, got)
		}
		seen[got] = in
	}
}

func TestEscapeNameCuts(t *testing.T) {
	for _, char := range []string{"/", "%", "é", "x", "\xff", "~"} {
		for shift := range 4 {
			long := "//" + strings.Repeat("a", shift) + strings.Repeat(char, 300)
			a, b := escapeName(long, 200), escapeName(long+char, 200)
			if len(a) > 213 || len(a) < 200 || a == b || !utf8.ValidString(a) || strings.Contains(a, "%~") || strings.Contains(a, "%2~") {
				t.Errorf("%q %q", a, b)
			}
			if again := escapeName(unescapeName(a), 200); again != a {
				t.Errorf("%q leads to %q", a, again)
			}
		}
	}
}

func FuzzEscapeName(f *testing.F) {
	for _, name := range []string{"", "//a/b:c (d)", "//..", "=%", "\xff/+~"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := escapeName(name, 1<<20)
		if unescapeName(got) != name || got == "" || got == "." || got == ".." || strings.ContainsAny(got, "/\x00\n ") {
			t.Errorf("%q becomes %q", name, got)
		}
		_ = unescapeName(name)
	})
}

func TestScratchNamesAreReadable(t *testing.T) {
	s := newStore(t)
	for label, want := range map[string]string{
		"//examples/web.star:step (image)":  "examples+web.star:step~{image}-",
		"import":                            "import-",
		"//" + strings.Repeat("very/", 100): "very+very+very+very+very+very+very+v-",
	} {
		c := must[*Scratch](t)(s.Scratch(label))
		defer c.Close()
		if name := filepath.Base(c.Dir()); len(name) != len(want)+12 || !strings.HasPrefix(name, want) {
			t.Errorf("%s gets %s", label, name)
		}
	}
}

func TestLockKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	stores := []*Store{open(t, dir), open(t, dir)}
	var asking, inside, total atomic.Int32
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			asking.Add(1)
			unlock, err := stores[i%2].LockKey(t.Context(), key("k"))
			if err != nil {
				t.Error(err)
				return
			}
			if inside.Add(1) != 1 {
				t.Error("two are inside")
			}
			total.Add(1)
			for asking.Load() < 20 {
				runtime.Gosched() // until nobody can come too late to be in the way
			}
			runtime.Gosched()
			inside.Add(-1)
			unlock()
			unlock()
		})
	}
	wg.Wait()
	if total.Load() != 20 {
		t.Errorf("%d got in", total.Load())
	}
	unlock, err := stores[0].LockKey(t.Context(), key("k"))
	check(t, err)
	defer unlock()
	other, err := stores[0].LockKey(t.Context(), key("other"))
	check(t, err)
	other()
	for _, s := range stores {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := s.LockKey(ctx, key("k")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting ends with %v", err)
		}
		cancel()
	}
	if files := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(dir, locksDir))); len(files) != 5 {
		t.Errorf("%d lock files", len(files))
	}
}

// TestScratchGoesWithWhatAScriptMade leaves what chattr(1) and deep directories
// leave below a writable share.
func TestScratchGoesWithWhatAScriptMade(t *testing.T) {
	for name, leave := range map[string]func(*testing.T, string){
		"immutable file":   func(t *testing.T, dir string) { setFlag(t, write(t, filepath.Join(dir, "d/f"), "x"), flagImmutable) },
		"append-only file": func(t *testing.T, dir string) { setFlag(t, write(t, filepath.Join(dir, "d/f"), "x"), flagAppendOnly) },
		"immutable directory": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "d/f"), "x")
			setFlag(t, filepath.Join(dir, "d"), flagImmutable)
		},
		"append-only directory": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "d/f"), "x")
			setFlag(t, filepath.Join(dir, "d"), flagAppendOnly)
		},
		"immutable below deep": func(t *testing.T, dir string) {
			deep := makeDeep(t, dir, 3000)
			setFlag(t, write(t, fmt.Sprintf("/proc/self/fd/%d/f", deep.Fd()), "x"), flagImmutable)
		},
		"deep": func(t *testing.T, dir string) { makeDeep(t, dir, 3000) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			c := must[*Scratch](t)(s.Scratch("step"))
			leave(t, c.Dir())
			kept := must[string](t)(c.Keep("//a:b"))
			must[Usage](t)(s.Usage(t.Context()))
			must[CollectReport](t)(s.Collect(t.Context(), Policy{MaxSize: -1, DryRun: true}))
			check(t, s.DropFailed("//a:b"))
			if _, err := os.Lstat(kept); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it is still there: %v", err)
			}
			dead := filepath.Join(s.dir, scratchDir, "dead")
			check(t, os.Mkdir(dead, 0o700))
			leave(t, dead)
			check(t, s.Reap())
			if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("reap left it: %v", err)
			}
		})
	}
}

// TestAdoptTakesImmutableFiles stores a share whose files a script has protected.
func TestAdoptTakesImmutableFiles(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("step"))
	out := filepath.Join(c.Dir(), "out")
	setFlag(t, write(t, filepath.Join(out, "d/f"), "x"), flagImmutable)
	setFlag(t, filepath.Join(out, "d"), flagImmutable)
	setFlag(t, out, flagAppendOnly)
	must[Object](t)(s.Adopt(t.Context(), out))
	check(t, c.Close())
}

func setFlag(t *testing.T, path string, flag uint32) {
	t.Helper()
	f := must[*os.File](t)(os.Open(path))
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags|flag))
	}
	if err != nil {
		t.Skipf("no attributes of files here: %v", err)
	}
	t.Cleanup(func() {
		clearFlags(int(f.Fd()))
		f.Close()
	})
}

// makeDeep makes that many directories, each in the one before, and opens the last.
func makeDeep(t *testing.T, dir string, levels int) *os.File {
	t.Helper()
	f := must[*os.File](t)(os.Open(dir))
	for range levels {
		check(t, unix.Mkdirat(int(f.Fd()), "dd", 0o755))
		fd := must[int](t)(unix.Openat(int(f.Fd()), "dd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0))
		f.Close()
		f = os.NewFile(uintptr(fd), "dd")
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A directory that was given back empty serves again, under its new label; one that was
// changed does not.
func TestAnEmptyScratchDirectoryServesAgain(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "store"))
	inode := func(c *Scratch) uint64 {
		info := must[os.FileInfo](t)(os.Lstat(c.Dir()))
		return info.Sys().(*syscall.Stat_t).Ino
	}
	first := must[*Scratch](t)(s.Scratch("//a:first"))
	was := inode(first)
	check(t, first.Close())
	check(t, first.Close())
	check(t, s.Reap())
	second := must[*Scratch](t)(s.Scratch("//a:second"))
	if inode(second) != was || !strings.HasPrefix(filepath.Base(second.Dir()), "a:second-") {
		t.Errorf("%s is another directory", second.Dir())
	}
	if third := must[*Scratch](t)(s.Scratch("//a:third")); inode(third) == was {
		t.Error("a directory in use was given to another step")
	} else if err := os.Chmod(third.Dir(), 0o755); err != nil || third.Close() != nil {
		t.Fatal(err)
	} else if _, err := os.Lstat(third.Dir()); err == nil {
		t.Error("a directory with other permissions was kept")
	}
	write(t, filepath.Join(second.Dir(), "file"), "x")
	check(t, second.Close())
	fourth := must[*Scratch](t)(s.Scratch("//a:fourth"))
	if entries := must[[]os.DirEntry](t)(os.ReadDir(fourth.Dir())); len(entries) > 0 {
		t.Errorf("a new directory holds %v", entries)
	}
	check(t, fourth.Close())
	check(t, s.Close())
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(s.Dir(), scratchDir))); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
