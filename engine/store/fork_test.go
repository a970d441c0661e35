package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/overlay"
	"b9.build/b9/engine/internal/seedtest"
)

// forkingStore keeps only what is written to forks, however small the objects are.
func forkingStore(t testing.TB) *Store {
	t.Helper()
	s := must[*Store](t)(Open(filepath.Join(t.TempDir(), "store"), Options{ForkAbove: 1}))
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// forked makes a fork of a new object, and skips the test where it is a copy.
func forked(t testing.TB, s *Store, content string) (o Object, c *Scratch, path string) {
	t.Helper()
	o = adopt(t, s, content)
	c = must[*Scratch](t)(s.Scratch("fork"))
	t.Cleanup(func() { check(t, c.Close()) })
	path = filepath.Join(c.Dir(), "fork")
	check(t, s.Fork(t.Context(), o.Digest, path))
	if !s.IsFork(path) {
		t.Skipf("forks are copies or clones here: %v", s.forks.none)
	}
	return o, c, path
}

// writeAt changes a part of a file.
func writeAt(t testing.TB, path, text string, off int64) {
	t.Helper()
	f := must[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	_, err := f.WriteAt([]byte(text), off)
	check(t, errors.Join(err, f.Close()))
}

// names lists a directory.
func names(t testing.TB, dir string) (list []string) {
	t.Helper()
	for _, e := range must[[]fs.DirEntry](t)(os.ReadDir(dir)) {
		list = append(list, e.Name())
	}
	return list
}

// contract does by chance to a fork what it does to a plain copy, and adopts both, some
// times over: they are one object each time, and what was a link is gone.
func contract(s *Store, r *rand.Rand) (overlays int, err error) {
	c, err := s.Scratch("contract")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	first := filepath.Join(c.Dir(), "first")
	content := bytes.Repeat([]byte("the content of an image "), 1+r.IntN(30_000))
	if err := os.WriteFile(first, content, 0o600); err != nil {
		return 0, err
	}
	o, err := s.Adopt(context.Background(), first)
	if err != nil {
		return 0, err
	}
	for i := range 5 {
		fork, plain := filepath.Join(c.Dir(), fmt.Sprint("fork", i)), filepath.Join(c.Dir(), fmt.Sprint("plain", i))
		if err := errors.Join(s.Fork(context.Background(), o.Digest, fork), s.copyOut(context.Background(), o.Digest, plain, s.plainly())); err != nil {
			return 0, err
		}
		if s.IsFork(fork) {
			overlays++
		}
		if err := changeBoth(r, fork, plain, o.Size); err != nil {
			return 0, err
		}
		a, err := s.Adopt(context.Background(), fork)
		if err != nil {
			return 0, err
		}
		b, err := s.Adopt(context.Background(), plain)
		if err != nil || a != b {
			return 0, fmt.Errorf("the fork is %v, a copy to which the same was done %v, %v", a, b, err)
		}
		o = a
	}
	left, err := os.ReadDir(c.Dir())
	if len(left) > 0 {
		return 0, fmt.Errorf("left in the scratch directory: %v", left)
	}
	return overlays, err
}

// changeBoth writes, discards and resizes.
func changeBoth(r *rand.Rand, a, b string, size int64) error {
	var files [2]*os.File
	for i, path := range []string{a, b} {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	for range r.IntN(12) {
		off, n, what := r.Int64N(size+1), 1+r.Int64N(100_000), r.IntN(6)
		data := bytes.Repeat([]byte{byte(r.Uint32())}, int(n))
		for _, f := range files {
			var err error
			switch what {
			default:
				_, err = f.WriteAt(data, off)
			case 0, 1:
				err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
			case 2:
				err = f.Truncate(size/2 + off)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func TestForksBecomeWhatCopiesBecome(t *testing.T) {
	s, r := forkingStore(t), seedtest.Random(t)
	for range 4 {
		overlays, err := contract(s, r)
		if err != nil || overlays == 0 && s.forks.none == nil {
			t.Errorf("%d overlays, %v", overlays, err)
		}
	}
}

// forkOn is a child that keeps a store in a directory, and the contract there. args are an
// image to mount, or a name of a file system without one; and the directory.
func forkOn(args []string) error {
	err := mountAt(args[0], args[1])
	if err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{ForkAbove: 1})
	if err != nil {
		return err
	}
	for seed := range uint64(4) {
		overlays, err := contract(s, rand.New(rand.NewPCG(seedtest.Seed(), seed)))
		if err != nil {
			return err
		}
		fmt.Println(overlays, "overlays")
	}
	return s.Close()
}

// mountAt mounts an image, or one of the file systems that need none.
func mountAt(what, dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	switch what {
	case "tmpfs":
		return unix.Mount("b9", dir, "tmpfs", 0, "")
	case "overlay":
		if err := unix.Mount("b9", dir, "tmpfs", 0, ""); err != nil {
			return err
		}
		for _, sub := range []string{"lower", "upper", "work", "top"} {
			if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
				return err
			}
		}
		options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
		return unix.Mount("b9", dir, "overlay", 0, options)
	case "":
		return nil
	}
	return mountImage(what, dir)
}

func TestForksOnExt4(t *testing.T) { inOwnMounts(t, "fork", 256<<20, "mkfs.ext4", "-q", "-F") }

func TestForksOnXFS(t *testing.T) { inOwnMounts(t, "fork", 400<<20, "mkfs.xfs", "-q") }

func TestForksOnBtrfs(t *testing.T) { inOwnMounts(t, "fork", 400<<20, "mkfs.btrfs", "-q") }

// Root of a user namespace has the rights that forks need, and no more.
func TestForksInAUserNamespace(t *testing.T) {
	for _, what := range []string{"", "tmpfs", "overlay"} {
		cmd := childCommand(t, "fork", what, t.TempDir())
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
			t.Skipf("no user namespaces: %v", err)
		}
		if err != nil || !strings.Contains(string(out), "5 overlays") {
			t.Errorf("on %q: %v: %s", what, err, out)
		}
	}
}

// A small object, and one that is not forked into a scratch directory itself, is copied.
func TestForksThatAreCopies(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	check(t, s.Fork(t.Context(), adopt(t, s, "small").Digest, filepath.Join(c.Dir(), "f")))
	forking := forkingStore(t)
	o, d, _ := forked(t, forking, strings.Repeat("x", 1<<20))
	check(t, os.Mkdir(filepath.Join(d.Dir(), "below"), 0o700))
	never := must[*Store](t)(Open(filepath.Join(t.TempDir(), "store"), Options{ForkAbove: -1}))
	defer never.Close()
	e := must[*Scratch](t)(never.Scratch("t"))
	defer e.Close()
	check(t, never.Fork(t.Context(), adopt(t, never, strings.Repeat("x", 1<<20)).Digest, filepath.Join(e.Dir(), "f")))
	for _, path := range []string{filepath.Join(d.Dir(), "below", "f"), filepath.Join(t.TempDir(), "outside")} {
		check(t, forking.Fork(t.Context(), o.Digest, path))
		wantRegular(t, path)
	}
	wantRegular(t, filepath.Join(c.Dir(), "f"))
	wantRegular(t, filepath.Join(e.Dir(), "f"))
}

func wantRegular(t testing.TB, path string) {
	t.Helper()
	if info := must[fs.FileInfo](t)(os.Lstat(path)); !info.Mode().IsRegular() {
		t.Errorf("%s is %v", path, info.Mode())
	}
}

// Where nothing can be shown, forks are copies.
func TestForksWithoutFUSE(t *testing.T) {
	s := forkingStore(t)
	s.forks.none = fmt.Errorf("here: %w", overlay.ErrUnavailable)
	o := adopt(t, s, "content")
	c := must[*Scratch](t)(s.Scratch("t"))
	defer c.Close()
	path := filepath.Join(c.Dir(), "f")
	check(t, s.Fork(t.Context(), o.Digest, path))
	wantRegular(t, path)
}

// A fork that was moved is the same fork; one that is replaced by a file is that file.
func TestForksThatMove(t *testing.T) {
	s := forkingStore(t)
	o, c, path := forked(t, s, strings.Repeat("a", 1<<20))
	check(t, os.Rename(path, path+".moved"))
	if got := must[Object](t)(s.Adopt(t.Context(), path+".moved")); got != o {
		t.Errorf("nothing was written to it and it is %v, not %v", got, o)
	}
	check(t, s.Fork(t.Context(), o.Digest, path))
	write(t, path+".new", "new")
	check(t, os.Rename(path+".new", path))
	if got := must[Object](t)(s.Adopt(t.Context(), path)); got.Size != 3 {
		t.Errorf("it is %v", got)
	}
	check(t, c.Close())
	if len(s.forks.open) > 0 {
		t.Errorf("still shown: %v", s.forks.open)
	}
}

func TestWritten(t *testing.T) {
	s := forkingStore(t)
	o, _, path := forked(t, s, strings.Repeat("x", 10*65536))
	want := func(want ...[2]int64) {
		t.Helper()
		parts, err := s.Written(o.Digest, path)
		if err != nil || parts == nil || !slices.Equal(parts, want) {
			t.Errorf("written to are %v, %v; want %v", parts, err, want)
		}
	}
	want()
	writeAt(t, path, "hello", 65536+5)
	want([2]int64{65536, 2 * 65536})
	check(t, os.Truncate(path, 9*65536))
	want([2]int64{65536, 2 * 65536})
	check(t, os.Truncate(path, 11*65536+7))
	writeAt(t, path, "hello", 10*65536)
	want([2]int64{65536, 2 * 65536}, [2]int64{9 * 65536, 11*65536 + 7})
	check(t, CopySparse(t.Context(), path, path+".copy"))
	if parts, err := s.Written(o.Digest, path+".copy"); parts != nil || err != nil {
		t.Errorf("of a copy it is known: %v, %v", parts, err)
	}
	if parts, err := s.Written(adopt(t, s, "other").Digest, path); parts != nil || err != nil {
		t.Errorf("of another object it is known: %v, %v", parts, err)
	}
}

// What was removed from the directory of a failed step is not kept.
func TestForksThatAreRemovedAreNotKept(t *testing.T) {
	s := forkingStore(t)
	o, c, path := forked(t, s, strings.Repeat("x", 1<<20))
	check(t, s.Fork(t.Context(), o.Digest, path+"2"))
	check(t, errors.Join(os.Remove(path), os.Rename(path+"2", path+"3")))
	dir := must[string](t)(c.Keep("step"))
	if list := names(t, dir); !slices.Equal(list, []string{".difference-1", "fork3"}) {
		t.Errorf("kept are %v", list)
	}
	release := must[func() error](t)(s.Resume(dir))
	check(t, release())
}

// The directory of a failed step keeps its forks; they are shown again when they are
// wanted, by another process, and what is written then stays.
func TestKeptForksAreResumed(t *testing.T) {
	s := forkingStore(t)
	_, c, path := forked(t, s, strings.Repeat("x", 1<<20))
	writeAt(t, path, "hello", 100)
	dir := must[string](t)(c.Keep("step"))
	path = filepath.Join(dir, "fork")
	for _, text := range []string{"hello", "world"} {
		other := must[*Store](t)(Open(s.Dir(), Options{}))
		release := must[func() error](t)(other.Resume(dir))
		if got := string(must[[]byte](t)(os.ReadFile(path))[99:106]); got != "x"+text+"x" {
			t.Errorf("it holds %q", got)
		}
		writeAt(t, path, "world", 100)
		check(t, errors.Join(release(), other.Close()))
	}
	if list := names(t, dir); !slices.Equal(list, []string{".difference-0", "fork"}) {
		t.Errorf("kept are %v", list)
	}
	// Who is killed meanwhile leaves nothing that could be shown.
	other := must[*Store](t)(Open(s.Dir(), Options{}))
	must[func() error](t)(other.Resume(dir))
	check(t, other.Close())
	if _, err := s.Resume(dir); err == nil || !strings.Contains(err.Error(), "was killed: build again") {
		t.Errorf("what a dead process had open: %v", err)
	}
}

func TestResumeWithoutTheBase(t *testing.T) {
	s := forkingStore(t)
	o, c, _ := forked(t, s, strings.Repeat("x", 1<<20))
	dir := must[string](t)(c.Keep("step"))
	check(t, os.Remove(s.Path(o.Digest)))
	if _, err := s.Resume(dir); !errors.Is(err, ErrNotInStore) || !strings.Contains(err.Error(), "build again") {
		t.Errorf("without the base: %v", err)
	}
}

// forkForever is a child that forks and writes until it is killed.
func forkForever(args []string) error {
	s, err := Open(args[0], Options{ForkAbove: 1})
	if err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seedtest.Seed(), 1))
	fmt.Println("ready")
	for {
		if _, err := contract(s, r); err != nil {
			return err
		}
	}
}

// A process that is killed leaves no process, and nothing that the next one does not
// remove; what it stored is right.
func TestKillWhileForking(t *testing.T) {
	dir, moment := filepath.Join(t.TempDir(), "store"), seedtest.Moments(t)
	for range 6 {
		cmd := childCommand(t, "forks", dir)
		out := must[io.ReadCloser](t)(cmd.StdoutPipe())
		check(t, cmd.Start())
		var word string
		_, err := fmt.Fscan(out, &word)
		check(t, err)
		time.Sleep(moment(200 * time.Millisecond))
		check(t, cmd.Process.Kill())
		_ = cmd.Wait()
	}
	s := open(t, dir)
	check(t, s.Reap())
	if list := names(t, filepath.Join(dir, scratchDir)); len(list) > 0 {
		t.Errorf("left are %v", list)
	}
	if r := must[VerifyReport](t)(s.Verify(t.Context(), false)); len(r.Corrupt)+len(r.Missing) > 0 || r.Files == 0 {
		t.Errorf("stored are %+v", r)
	}
}

// keptFork leaves a failed step in the store whose fork is that of a difference, and
// returns this and what it rests on, all two hours old.
func keptFork(t *testing.T, dir string) (objects []Object) {
	t.Helper()
	random := seedtest.Random(t)
	s := must[*Store](t)(Open(dir, Options{ForkAbove: 1}))
	base, _ := full(t, s, random, leavesFrom)
	o := different(t, s, random, base, 3)
	c := must[*Scratch](t)(s.Scratch("step"))
	path := filepath.Join(c.Dir(), "fork")
	check(t, s.Fork(t.Context(), o.Digest, path))
	if !s.IsFork(path) {
		t.Skipf("forks are copies or clones here: %v", s.forks.none)
	}
	writeAt(t, path, "hello", 100)
	must[string](t)(c.Keep("step"))
	objects = []Object{o, base}
	old := time.Now().Add(-2 * time.Hour)
	for _, o := range objects {
		check(t, os.Chtimes(s.objectPath(o), old, old))
	}
	check(t, s.Close())
	return objects
}

// While a failed step is there, and while it is open in a shell, what its forks rest on is
// there, too; both go together, the step first.
func TestFailedStepsKeepWhatTheirForksRestOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	objects := keptFork(t, dir)
	collect := func(s *Store, p Policy, gone, failed int) {
		t.Helper()
		r := must[CollectReport](t)(s.Collect(t.Context(), p))
		u := must[Usage](t)(s.Usage(t.Context()))
		if r.Objects != gone || r.Failed != failed || r.Kept != u.Allocated+u.FailedBytes {
			t.Errorf("collection reports %+v, want %d objects and %d failed steps; left are %+v", r, gone, failed, u)
		}
	}
	later(t, dir, func(s *Store) { collect(s, Policy{MaxAge: time.Hour}, 0, 0) })
	later(t, dir, func(s *Store) { // as a shell, which another process collects beside
		unlock := must[func()](t)(s.LockFailed("step"))
		collect(s, everything, 0, 0)
		unlock()
		held := map[Digest]int{}
		for _, h := range must[[]Held](t)(s.Holds(t.Context())) {
			if h.Object != nil {
				held[h.Object.Digest] = h.Bears
			}
		}
		if held[objects[0].Digest] != 1 || held[objects[1].Digest] != 2 {
			t.Errorf("so much rests on them: %v", held)
		}
		c := &collector{s: s}
		check(t, c.inventory.scan(t.Context(), s))
		for _, o := range objects {
			if got := c.ranks()[c.byDigest[o.Digest]]; got != rankDear {
				t.Errorf("what a failed step rests on has rank %d", got)
			}
		}
	})
	later(t, dir, func(s *Store) {
		release := must[func() error](t)(s.Resume(s.failedPath("step")))
		if got := string(must[[]byte](t)(os.ReadFile(filepath.Join(s.failedPath("step"), "fork")))[100:105]); got != "hello" {
			t.Errorf("the fork holds %q", got)
		}
		check(t, release())
	})
	later(t, dir, func(s *Store) { collect(s, everything, 2, 1) })
}

// Without the failed step nothing keeps what it rested on.
func TestDroppedStepsKeepNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	keptFork(t, dir)
	later(t, dir, func(s *Store) {
		check(t, s.DropFailed("step"))
		if r := must[CollectReport](t)(s.Collect(t.Context(), Policy{MaxAge: time.Hour})); r.Objects != 2 {
			t.Errorf("collection reports %+v", r)
		}
	})
}
