package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
)

func TestAnObjectThatWasWrittenToVouchesForNothing(t *testing.T) {
	inOwnMounts(t, "tampered", 400<<20, "mkfs.xfs", "-q", "-m", "reflink=1")
}

// forkTampered forks objects that were written to behind the store's back.
func forkTampered(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	s, err := Open(filepath.Join(args[1], "store"), Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.Scratch("tampered")
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := context.Background()
	path := filepath.Join(c.Dir(), "f")
	if err := os.WriteFile(path, bytes.Repeat([]byte("data"), leavesFrom/4), 0o600); err != nil {
		return err
	}
	o, err := s.Adopt(ctx, path)
	if err != nil {
		return err
	}
	// The write comes between the store's look and the clone.
	if err := tamper(s.Path(o.Digest)); err != nil {
		return err
	}
	if err := copyFile(ctx, s.Path(o.Digest), path, copying{mode: 0o600, workers: 1}); err != nil {
		return err
	}
	want, _, err := digest.Path(ctx, path, 2)
	if err != nil {
		return err
	}
	got, err := s.Adopt(ctx, path, o.Digest)
	if err != nil || got.Digest != want || want == o.Digest {
		return fmt.Errorf("the fork of a tampered object is %s, %w, want %s", got.Digest, err, want)
	}
	if s.Has(o) {
		return errors.New("the tampered object is there")
	}
	return nil
}

// tamper writes into a file until its time of change is another, for which the kernel's clock
// has to tick.
func tamper(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return err
	}
	for after.Ctim = before.Ctim; after.Ctim == before.Ctim; {
		_, err := f.WriteAt([]byte("tampered"), 1<<20)
		if err = errors.Join(err, unix.Fstat(int(f.Fd()), &after)); err != nil {
			return err
		}
	}
	return nil
}
