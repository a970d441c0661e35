package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/internal/overlay"
	"b9.build/b9/engine/internal/seedtest"
)

// childVar selects what the test binary does when a test starts it again.
const childVar = "B9_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	overlay.Main()
	children := map[string]func(args []string) error{
		"churn":     churnForever,
		"once":      churnOnce,
		"hold":      holdEverything,
		"open":      openOnce,
		"fulldisk":  fillDisk,
		"room":      makeRoomInOrder,
		"changed":   adoptChangedObjects,
		"tampered":  forkTampered,
		"age":       ageOfForks,
		"differing": fillDiskWithDifferences,
		"inodes":    fillInodes,
		"readonly":  useReadOnly,
		"clone":     cloneObjects,
		"powerloss": losePower,
		"fork":      forkOn,
		"forks":     forkForever,
	}
	child := children[os.Getenv(childVar)]
	if child == nil {
		os.Exit(m.Run())
	}
	if err := child(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// longVar, set to 1, makes the crash tests repeat what they do many more
// times, which takes minutes and finds what is rare. CI sets it.
const longVar = "B9_LONG_TESTS"

// longer is how often a crash test repeats what it does.
func longer(usual, long int) int {
	if os.Getenv(longVar) == "1" {
		return long
	}
	return usual
}

// childCommand is this test binary as the named child.
func childCommand(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), must[string](t)(os.Executable()), args...)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	return cmd
}

// churn does once what builds do, with contents that follow from n.
func churn(ctx context.Context, s *Store, n uint64) error {
	r := rand.New(rand.NewPCG(n, 1))
	c, err := s.Scratch("churn")
	if err != nil {
		return err
	}
	defer c.Close()
	file, dir := filepath.Join(c.Dir(), "file"), filepath.Join(c.Dir(), "dir")
	if err := os.WriteFile(file, content(n%50), 0o600); err != nil {
		return err
	}
	for i := range 1 + r.IntN(2*manyFiles) {
		sub := filepath.Join(dir, fmt.Sprint(i%3))
		if err := errors.Join(os.MkdirAll(sub, 0o755), os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), content(uint64(i)), 0o640)); err != nil {
			return err
		}
	}
	unlock, err := s.LockKey(ctx, key(fmt.Sprint(n%50)))
	if err != nil {
		return err
	}
	defer unlock()
	o, err := s.Adopt(ctx, file)
	if err != nil {
		return err
	}
	tree, err := s.Adopt(ctx, dir)
	if err != nil {
		return err
	}
	outputs := []Output{{"/", o}, {"dir", tree}}
	if err := s.Commit(&Record{Key: key(fmt.Sprint(n % 50)), Label: fmt.Sprint("//", n%50), Outputs: outputs}); err != nil {
		return err
	}
	return churnUse(ctx, s, c, n, outputs)
}

// churnUse uses what was made, and what earlier rounds made.
func churnUse(ctx context.Context, s *Store, c *Scratch, n uint64, made []Output) error {
	if err := s.Extract(ctx, made[1].Object.Digest, filepath.Join(c.Dir(), "made")); err != nil {
		return err
	}
	if found, ok := s.LookupOutputs(key(fmt.Sprint((n + 7) % 50))); ok {
		if err := s.Fork(ctx, found[0].Object.Digest, filepath.Join(c.Dir(), "fork")); err != nil {
			return err
		}
		if err := s.Extract(ctx, found[1].Object.Digest, filepath.Join(c.Dir(), "extracted")); err != nil {
			return err
		}
	}
	switch n % 5 {
	case 0:
		_, err := s.Collect(ctx, Policy{MaxSize: 500_000})
		return err
	case 1:
		_, err := c.Keep(fmt.Sprint(n % 3))
		return err
	case 2:
		return s.NameResult("/", fmt.Sprint("//", n%4), []Object{made[1].Object})
	case 3:
		return s.Reap()
	case 4:
		_, err := changeBig(ctx, s, c.Dir(), n)
		return err
	}
	return nil
}

func content(n uint64) []byte {
	return []byte(strings.Repeat(fmt.Sprint("content ", n, "\n"), int(n*n%3000)))
}

// churnForever opens the store anew now and then, as builds do.
func churnForever(args []string) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	for n := seed; ; {
		s, err := Open(args[0], Options{})
		if err != nil {
			return err
		}
		for range 5 {
			if err := churn(context.Background(), s, n); err != nil {
				return fmt.Errorf("round %d: %w", n, err)
			}
			n++
		}
		if err := s.Close(); err != nil {
			return err
		}
	}
}

func churnOnce(args []string) error {
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	for n := range uint64(5) {
		if err := churn(context.Background(), s, n); err != nil {
			return err
		}
	}
	return s.Close()
}

// afterCrash checks that the store opens, is sound, and gets clean.
func afterCrash(t *testing.T, dir string) {
	t.Helper()
	s := must[*Store](t)(Open(dir, Options{}))
	defer s.Close()
	check(t, s.Reap())
	if u := must[Usage](t)(s.Usage(t.Context())); u.Scratch != 0 {
		t.Errorf("%d scratch directories are left", u.Scratch)
	}
	sound(t, s)
	for n := range 50 {
		if outputs, ok := s.LookupOutputs(key(fmt.Sprint(n))); ok {
			check(t, s.Extract(t.Context(), outputs[1].Object.Digest, t.TempDir()))
			got := must[[]byte](t)(os.ReadFile(s.Path(outputs[0].Object.Digest)))
			if string(got) != string(content(uint64(n))) {
				t.Errorf("key %d holds the wrong bytes", n)
			}
		}
	}
}

func TestKilledAtRandom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	r := seedtest.Random(t)
	for round := range longer(4, 40) {
		var cmds []*exec.Cmd
		var errs [3]strings.Builder
		for i := range errs {
			cmd := childCommand(t, "churn", dir, fmt.Sprint(r.IntN(1000)))
			cmd.Stderr = &errs[i]
			check(t, cmd.Start())
			cmds = append(cmds, cmd)
		}
		time.Sleep(time.Duration(20+r.IntN(300)) * time.Millisecond)
		for i, cmd := range cmds {
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond)
			check(t, cmd.Process.Kill())
			cmd.Wait()
			if errs[i].Len() > 0 {
				t.Fatalf("round %d: a build failed: %s", round, errs[i].String())
			}
		}
		afterCrash(t, dir)
	}
}

// TestKilledAtEachStep kills before the n-th call that changes the disk.
func TestKilledAtEachStep(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	steps := longer(12, 60)
	dir := filepath.Join(t.TempDir(), "store")
	for _, calls := range []string{"renameat,rename,renameat2", "fsync,syncfs", "unlinkat,unlink", "fchmodat,utimensat,mkdirat", "write"} {
		for n := 1; n <= steps; n += 1 + n/2 {
			child := childCommand(t, "once", dir)
			cmd := exec.CommandContext(t.Context(), strace, append([]string{"-f", "-qq", "-o", "/dev/null",
				"-e", "inject=" + calls + ":signal=SIGKILL:when=" + fmt.Sprint(n)}, child.Args...)...)
			cmd.Env = child.Env
			out, err := cmd.CombinedOutput()
			if err != nil && len(out) > 0 {
				t.Fatalf("%s %d: %v: %s", calls, n, err, out)
			}
			afterCrash(t, dir)
			if err == nil {
				break // so often it is not called
			}
		}
	}
}

// TestDiskErrors lets every n-th write to the disk fail.
func TestDiskErrors(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace")
	}
	for _, inject := range []string{"fsync,syncfs:error=EIO", "renameat:error=ENOSPC", "write:error=ENOSPC", "copy_file_range:error=ENOSPC"} {
		for _, n := range []string{"1", "4+"} {
			dir := filepath.Join(t.TempDir(), "store")
			s := must[*Store](t)(Open(dir, Options{}))
			check(t, s.Close())
			child := childCommand(t, "once", dir)
			cmd := exec.CommandContext(t.Context(), strace, append([]string{"-f", "-qq", "-o", "/dev/null", "-e", "inject=" + inject + ":when=" + n}, child.Args...)...)
			cmd.Env = child.Env
			out, err := cmd.CombinedOutput()
			// With "8+" the message itself may be what can't be written.
			if err != nil && len(out) > 0 && strings.Contains(inject, "ENOSPC") && !strings.Contains(string(out), "no space left") {
				t.Errorf("%s: %v: %s", inject, err, out)
			}
			if strings.Contains(string(out), "panic") {
				t.Errorf("%s: %s", inject, out)
			}
			afterCrash(t, dir)
		}
	}
}

// holdEverything opens a store, takes a lock, a scratch directory, a lease
// and an object, says so, and waits to be killed.
func holdEverything(args []string) error {
	s, err := Open(args[0], Options{})
	if err != nil {
		return err
	}
	if _, err := s.LockKey(context.Background(), key("k")); err != nil {
		return err
	}
	c, err := s.Scratch("held")
	if err != nil {
		return err
	}
	if _, ok := s.LookupOutputs(key("used")); !ok {
		return errors.New("nothing to use")
	}
	fmt.Println(c.Dir())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func TestLocksDieWithTheirProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	later(t, dir, func(s *Store) {
		commit(t, s, "used", adopt(t, s, "used"))
		makeOld(t, s, time.Hour)
	})
	cmd := childCommand(t, "hold", dir)
	out := must[io.ReadCloser](t)(cmd.StdoutPipe())
	must[io.WriteCloser](t)(cmd.StdinPipe()) // the child lives until it is closed
	check(t, cmd.Start())
	buf := make([]byte, 4096)
	n := must[int](t)(out.Read(buf))
	scratch := strings.TrimSpace(string(buf[:n]))

	s := open(t, dir)
	check(t, s.Reap())
	if _, err := os.Stat(scratch); err != nil {
		t.Errorf("the scratch directory of a live process is gone: %v", err)
	}
	if r := must[CollectReport](t)(s.Collect(t.Context(), everything)); r.Objects != 0 {
		t.Errorf("a live process's object was collected: %+v", r)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.LockKey(ctx, key("k")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a live process's lock was taken: %v", err)
	}
	check(t, cmd.Process.Kill())
	cmd.Wait()
	unlock, err := s.LockKey(t.Context(), key("k"))
	check(t, err)
	unlock()
	check(t, s.Reap())
	if _, err := os.Stat(scratch); err == nil {
		t.Error("the scratch directory of a dead process is left")
	}
	if r := must[CollectReport](t)(s.Collect(t.Context(), everything)); r.Objects != 1 {
		t.Errorf("a dead process's object was not collected: %+v", r)
	}
}
