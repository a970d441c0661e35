package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine"
	"b9.build/b9/engine/internal/seedtest"
)

// Where it is set, the tests that cut the power repeat that many times, from the seed
// B9_SEED, which they print.
const cutsVar = "B9_CUTS"

// TestResultsSurviveAPowerLoss cuts the power of the file system that results lie on:
// after Place has returned, then all are there; and at random moments before, then the
// next Place puts all right, and never refuses what is b9's.
func TestResultsSurviveAPowerLoss(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	rounds, err := strconv.Atoi(os.Getenv(cutsVar))
	if err != nil {
		rounds = 3
	}
	for fs, mkfs := range map[string][]string{
		"ext4": {"mkfs.ext4", "-q", "-F"}, "xfs": {"mkfs.xfs", "-q", "-f"}, "btrfs": {"mkfs.btrfs", "-q", "-f"},
	} {
		t.Run(fs, func(t *testing.T) {
			if _, err := exec.LookPath(mkfs[0]); err != nil {
				t.Skipf("needs %s", mkfs[0])
			}
			w := &powerSite{t: t, image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
			w.fill(mkfs)
			random := seedtest.Random(t)
			for round := range rounds {
				w.round(round, 0)
				w.round(round, 1+time.Duration(random.Int64N(int64(w.took))))
			}
		})
	}
}

// powerSite is a file system for results whose power can be cut.
type powerSite struct {
	t          *testing.T
	image, dir string
	took       time.Duration // of placing
}

func (w *powerSite) fill(mkfs []string) {
	w.t.Helper()
	if err := errors.Join(os.WriteFile(w.image, nil, 0o600), os.Truncate(w.image, 400<<20)); err != nil {
		w.t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], w.image)...).CombinedOutput(); err != nil {
		w.t.Skipf("%v: %s", err, out)
	}
	w.took = 50 * time.Millisecond
}

// round places results of its own content and cuts the power after a while; 0 is after
// Place has returned. Then it looks.
func (w *powerSite) round(n int, after time.Duration) {
	w.t.Helper()
	self := func(what string) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestPowerChild$", "-test.v")
		cmd.Env = append(os.Environ(), "B9_POWER="+strings.Join([]string{what, w.image, w.dir, fmt.Sprint(n), fmt.Sprint(int64(after))}, ":"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Fatalf("round %d, power cut after %v: %v\n%s", n, after, err, out)
		}
	}
	self("cut")
	if err := os.Rename(w.image+".cut", w.image); err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	self("look")
}

// TestPowerChild is a process with mounts of its own.
func TestPowerChild(t *testing.T) {
	args := strings.Split(os.Getenv("B9_POWER"), ":")
	if len(args) != 5 {
		return // another test runs it
	}
	n, _ := strconv.Atoi(args[3])
	after, _ := strconv.ParseInt(args[4], 10, 64)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", args[1], args[2]).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out := filepath.Join(args[2], "out")
	artifacts := powerArtifacts(t, n)
	if args[0] == "look" {
		if after == 0 {
			wantPlaced(t, out, artifacts)
		}
		if err := placeAll(t.Context(), out, artifacts); err != nil {
			t.Fatalf("the next build: %v", err)
		}
		wantPlaced(t, out, artifacts)
		if err := unix.Unmount(args[2], unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		return
	}
	top, err := os.Open(args[2])
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	if after == 0 {
		if err := placeAll(t.Context(), out, artifacts); err != nil {
			t.Fatal(err)
		}
		cutPower(t, top, args[1])
		return
	}
	cut := make(chan struct{})
	time.AfterFunc(time.Duration(after), func() {
		defer close(cut)
		cutPower(t, top, args[1])
	})
	_ = placeAll(t.Context(), out, artifacts) // as far as it comes
	<-cut
}

// cutPower shuts the file system down: what is not in its log on the disk is lost. Where
// it knows no such thing, as btrfs of old, a copy of the image lacks what was not flushed.
func cutPower(t *testing.T, top *os.File, image string) {
	if unix.IoctlSetPointerInt(int(top.Fd()), 0x8004587d, 2) == nil {
		return
	}
	if out, err := exec.Command("cp", "--sparse=always", image, image+".cut").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// powerArtifacts are results whose content differs from round to round, and not their sizes.
func powerArtifacts(t *testing.T, n int) []*engine.Artifact {
	b := newBench(t)
	var all []*engine.Artifact
	for i := range 6 {
		text := strings.Repeat(fmt.Sprintf("%d %d\n", n%10, i), 1+i*30_000)
		ref := node(t, fmt.Sprintf("//:p%d", i), &join{Text: text})
		r, err := b.engine(engine.Config{}).Build(context.Background(), ref)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.Artifact(ref))
	}
	return all
}

func placeAll(ctx context.Context, out string, all []*engine.Artifact) error {
	var wanted []engine.Wanted
	for i, a := range all {
		wanted = append(wanted, engine.Wanted{Artifact: a, Path: fmt.Sprintf("d%d/r%d", i%2, i)})
	}
	_, err := engine.Place(ctx, engine.Destination{Dir: out, Umask: 0o022}, wanted)
	return err
}

func wantPlaced(t *testing.T, out string, all []*engine.Artifact) {
	t.Helper()
	for i, a := range all {
		data, err := os.ReadFile(filepath.Join(out, fmt.Sprintf("d%d/r%d", i%2, i)))
		want, rerr := a.ReadAll(1 << 30)
		if err != nil || rerr != nil || string(data) != string(want) {
			t.Errorf("result %d has %d bytes, which are not the right ones (%d), %v %v", i, len(data), len(want), err, rerr)
		}
	}
}
