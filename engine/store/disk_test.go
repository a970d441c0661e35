package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/seedtest"
)

// inOwnMounts starts the named child with an image of the given size at
// args[0], formatted with mkfs, in a mount namespace of its own: what it
// mounts is gone when it ends, however it ends.
func inOwnMounts(t *testing.T, child string, size int64, mkfs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := exec.LookPath(mkfs[0]); err != nil {
		t.Skipf("needs %s", mkfs[0])
	}
	image := filepath.Join(t.TempDir(), "image")
	check(t, os.WriteFile(image, nil, 0o600))
	check(t, os.Truncate(image, size))
	run(t, mkfs[0], append(mkfs[1:], image)...)
	cmd := childCommand(t, child, image, t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("%s", out)
}

// mountImage mounts the image at dir. It is detached with its last mount.
func mountImage(image, dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	// mount(8) looks for a free loop device and may lose it to another test.
	for try := 0; ; try++ {
		out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput()
		if err == nil {
			return nil
		}
		if try == 50 {
			return fmt.Errorf("mount: %w: %s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestFullDisk(t *testing.T) { inOwnMounts(t, "fulldisk", 24<<20, "mkfs.ext4", "-q", "-F") }

// fillDisk fills a small file system with objects, and then works on it.
func fillDisk(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	dir := filepath.Join(args[1], "store")
	s, err := Open(dir, Options{})
	if err != nil {
		return err
	}
	err = fillStore(s)
	if want := fmt.Sprintf("no space left for %s: free some with `b9 cache gc`", dir); err == nil || !strings.Contains(err.Error(), want) {
		return fmt.Errorf("filling the disk ends with %v", err)
	}
	if err := os.WriteFile(filepath.Join(args[1], "filler"), make([]byte, 64<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("there was room left: %v", err)
	}
	gc, err := Open(dir, Options{}) // needs a lease of its own
	if err != nil {
		return fmt.Errorf("open on a full disk: %w", err)
	}
	if r, err := gc.Collect(context.Background(), everything); err != nil || r.Objects != 0 {
		return fmt.Errorf("a live build's objects: %+v %v", r, err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	r, err := gc.Collect(context.Background(), everything)
	if err != nil || r.Objects == 0 || r.Kept != 0 {
		return fmt.Errorf("collection on a full disk: %+v %v", r, err)
	}
	if err := churn(context.Background(), gc, 1); err != nil {
		return fmt.Errorf("after the collection: %w", err)
	}
	v, err := gc.Verify(context.Background(), false)
	if err != nil || len(v.Corrupt)+len(v.Missing) > 0 {
		return fmt.Errorf("after the collection: %+v %v", v, err)
	}
	return gc.Close()
}

func fillStore(s *Store) error {
	for n := uint64(0); ; n++ {
		c, err := s.Scratch("fill")
		if err != nil {
			return err
		}
		path := filepath.Join(c.Dir(), "f")
		data := make([]byte, 300_000)
		rand.NewChaCha8([32]byte{byte(n)}).Read(data)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			// That was an action's write; one of the store's own comes next.
			os.Remove(path)
			_, err := s.Import(context.Background(), os.Args[0])
			return errors.Join(err, c.Close())
		}
		o, err := s.Adopt(context.Background(), path)
		if err == nil {
			err = s.Commit(&Record{Key: key(fmt.Sprint(n)), Outputs: []Output{{"", o}}})
		}
		if err := errors.Join(err, c.Close()); err != nil {
			return err
		}
	}
}

func TestForkSharesDataOnXFS(t *testing.T) {
	inOwnMounts(t, "clone", 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

func TestForkSharesDataOnBtrfs(t *testing.T) { inOwnMounts(t, "clone", 400<<20, "mkfs.btrfs", "-q") }

// cloneObjects makes more forks of an object than there is room for copies.
func cloneObjects(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("clone")
	if err != nil {
		return err
	}
	defer c.Close()
	path := filepath.Join(c.Dir(), "f")
	if err := os.WriteFile(path, []byte(strings.Repeat("data", 25<<20)), 0o600); err != nil {
		return err
	}
	o, err := s.Adopt(context.Background(), path)
	if err != nil {
		return err
	}
	for i := range 8 {
		if err := s.Fork(context.Background(), o.Digest, path+fmt.Sprint(i)); err != nil {
			return fmt.Errorf("fork %d: %w", i, err)
		}
	}
	d, _, err := digest.Path(context.Background(), path+"7", 0)
	if err == nil && d != o.Digest {
		err = errors.New("the fork differs")
	}
	return err
}

func TestPowerLossOnExt4(t *testing.T) {
	inOwnMounts(t, "powerloss", 256<<20, "mkfs.ext4", "-q", "-F")
}

func TestPowerLossOnXFS(t *testing.T) { inOwnMounts(t, "powerloss", 400<<20, "mkfs.xfs", "-q") }

// losePower stops the file system dead in the middle of builds, several
// times, and looks at what is left.
func losePower(args []string) error {
	promised := map[Digest][]Output{}
	seed := seedtest.Seed()
	fmt.Printf("%s=%d\n", seedtest.Variable, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range longer(4, 20) {
		if err := mountImage(args[0], args[1]); err != nil {
			return err
		}
		if err := keptPromises(args[1], promised); err != nil {
			return fmt.Errorf("after power loss %d: %w", round, err)
		}
		if err := buildUntilShutdown(args[1], uint64(round), time.Duration(50+random.IntN(300))*time.Millisecond, promised); err != nil {
			return err
		}
		if err := unmountSoon(args[1]); err != nil {
			return err
		}
	}
	fmt.Printf("%d records were promised and kept\n", len(promised))
	return nil
}

// unmountSoon waits for the kernel to let go of the last file.
func unmountSoon(dir string) (err error) {
	for range 100 {
		if err = unix.Unmount(dir, 0); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

func keptPromises(mount string, promised map[Digest][]Output) error {
	s, err := Open(filepath.Join(mount, "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Reap(); err != nil {
		return err
	}
	r, err := s.Verify(context.Background(), false)
	if err != nil || len(r.Corrupt)+len(r.Missing) > 0 {
		return fmt.Errorf("damaged: %v %v %v", r.Corrupt, r.Missing, err)
	}
	for k, want := range promised {
		if got, ok := s.LookupOutputs(k); !ok || fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("record %s is %v, want %v", k, got, want)
		}
	}
	return nil
}

// buildUntilShutdown runs builds, and notes what Commit promised.
func buildUntilShutdown(mount string, seed uint64, after time.Duration, promised map[Digest][]Output) error {
	s, err := Open(filepath.Join(mount, "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer f.Close()
	var mu sync.Mutex
	down := false // what is promised after that nobody hears: a dying XFS may say yes to fsync
	var wg sync.WaitGroup
	for i := range uint64(3) {
		wg.Go(func() {
			for n := uint64(0); ; n++ {
				r, err := buildOnce(s, seed*1_000_000+i*1000+n)
				if err != nil {
					return
				}
				mu.Lock()
				if !down {
					promised[r.Key] = r.Outputs
				}
				mu.Unlock()
			}
		})
	}
	time.Sleep(after)
	mu.Lock()
	down = true
	mu.Unlock()
	const nologflush = 2 // what is not in the log on the disk is lost
	if err := unix.IoctlSetPointerInt(int(f.Fd()), 0x8004587d, nologflush); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	wg.Wait()
	return nil
}

func buildOnce(s *Store, n uint64) (*Record, error) {
	c, err := s.Scratch("b")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	file, dir := filepath.Join(c.Dir(), "f"), filepath.Join(c.Dir(), "d")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, fmt.Appendf(content(n%300), "%d", n), 0o600)); err != nil {
		return nil, err
	}
	for i := range n % 3 * manyFiles / 2 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), fmt.Appendf(nil, "%d %d", n, i), 0o600); err != nil {
			return nil, err
		}
	}
	o, err := s.Adopt(context.Background(), file)
	if err != nil {
		return nil, err
	}
	tree, err := s.Adopt(context.Background(), dir)
	if err != nil {
		return nil, err
	}
	big, err := changeBig(context.Background(), s, c.Dir(), n)
	if err != nil {
		return nil, err
	}
	r := &Record{Key: key(fmt.Sprint("p", n)), Outputs: append([]Output{{"f", o}, {"d", tree}}, big...)}
	return r, s.Commit(r)
}
