package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAStoreThatCanOnlyBeRead(t *testing.T) {
	inOwnMounts(t, "readonly", 24<<20, "mkfs.ext4", "-q", "-F")
}

// useReadOnly fills a store, mounts its file system read-only, and uses it.
func useReadOnly(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	dir := filepath.Join(args[1], "store")
	key, o, err := fillOne(dir)
	if err != nil {
		return err
	}
	if err := unix.Mount("", args[1], "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return err
	}
	s, err := Open(dir, Options{})
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx := context.Background()
	if _, ok := s.LookupOutputs(key); !ok || !s.Has(o) {
		return errors.New("what is there can't be used")
	}
	if err := s.Fork(ctx, o.Digest, filepath.Join(os.TempDir(), fmt.Sprintf("b9-fork-%d", os.Getpid()))); err != nil {
		return err
	}
	os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("b9-fork-%d", os.Getpid())))
	if r, err := s.Verify(ctx, false); err != nil || r.Files != 1 || len(r.Corrupt) != 0 {
		return fmt.Errorf("verify: %+v, %w", r, err)
	}
	unlock, err := s.LockKey(ctx, key)
	if err != nil {
		return err
	}
	unlock()
	if err := errors.Join(s.NameResult("/ws", "//a", []Object{o}), s.Reap()); err != nil {
		return err
	}
	if _, err := s.AutoCollect(ctx, Policy{}); err != nil {
		return err
	}
	for name, refused := range map[string]func() error{
		"scratch": func() error { _, err := s.Scratch("x"); return err },
		"collect": func() error { _, err := s.Collect(ctx, Policy{}); return err },
		"repair":  func() error { _, err := s.Verify(ctx, true); return err },
	} {
		if err := refused(); err == nil || !strings.Contains(err.Error(), "can only be read: choose another with --store") {
			return fmt.Errorf("%s: %v", name, err)
		}
	}
	return s.Close()
}

// fillOne makes a store with one record.
func fillOne(dir string) (Digest, Object, error) {
	s, err := Open(dir, Options{})
	if err != nil {
		return Digest{}, Object{}, err
	}
	work, err := s.Scratch("x")
	if err != nil {
		return Digest{}, Object{}, err
	}
	path := filepath.Join(work.Dir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		return Digest{}, Object{}, err
	}
	o, err := s.Adopt(context.Background(), path)
	if err != nil {
		return Digest{}, Object{}, err
	}
	k := key("a")
	err = s.Commit(&Record{Key: k, Label: "//a", Outputs: []Output{{"", o}}})
	return k, o, errors.Join(err, work.Close(), s.Close())
}

func TestFullOfFiles(t *testing.T) {
	inOwnMounts(t, "inodes", 24<<20, "mkfs.ext4", "-q", "-F", "-N", "300")
}

// fillInodes uses up the inodes of a small file system: the error names them, and the
// place that is full.
func fillInodes(args []string) error {
	if err := mountImage(args[0], args[1]); err != nil {
		return err
	}
	dir := filepath.Join(args[1], "store")
	if _, _, err := fillOne(dir); err != nil {
		return err
	}
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = os.WriteFile(filepath.Join(args[1], fmt.Sprint("filler", i)), nil, 0o600)
	}
	s, oerr := Open(dir, Options{})
	if oerr != nil {
		return oerr
	}
	defer s.Close()
	_, err = s.Scratch("x")
	if want := "no inodes (it holds as many files as it can) left for " + dir + ": free some with `b9 cache gc`"; err == nil || !strings.Contains(err.Error(), want) {
		return fmt.Errorf("a full table of inodes: %v", err)
	}
	// Copies go elsewhere: then the store is not to blame.
	elsewhere, err := os.MkdirTemp("/dev/shm", "b9-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(elsewhere)
	if err := spaceError(dir, elsewhere, unix.ENOSPC); strings.Contains(err.Error(), "cache gc") || !strings.Contains(err.Error(), "no space left on the file system of "+elsewhere) {
		return fmt.Errorf("elsewhere: %v", err)
	}
	return nil
}

// A power loss may leave any part of a creation.
func TestOpenHealsHalfACreation(t *testing.T) {
	for name, spoil := range map[string]func(dir string) error{
		"VERSION is empty":     func(dir string) error { return os.Truncate(filepath.Join(dir, versionFile), 0) },
		"VERSION is cut short": func(dir string) error { return os.Truncate(filepath.Join(dir, versionFile), 4) },
		"VERSION is zeros": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, versionFile), make([]byte, len(formatLine)), 0o600)
		},
		"VERSION is lost, and what came later is not": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, versionFile)), os.MkdirAll(filepath.Join(dir, "cache"), 0o700),
				os.WriteFile(filepath.Join(dir, indexFile), nil, 0o600), os.WriteFile(filepath.Join(dir, "tools.json"), nil, 0o600))
		},
		"no leases":         func(dir string) error { return os.RemoveAll(filepath.Join(dir, leasesDir)) },
		"no locks":          func(dir string) error { return os.RemoveAll(filepath.Join(dir, locksDir)) },
		"a lock is missing": func(dir string) error { return os.Remove(filepath.Join(dir, locksDir, "results")) },
		"nothing but VERSION": func(dir string) error {
			var errs []error
			for _, d := range subdirs {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, d)))
			}
			return errors.Join(errs...)
		},
	} {
		dir := filepath.Join(t.TempDir(), "store")
		later(t, dir, func(*Store) {})
		check(t, spoil(dir))
		s, err := Open(dir, Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		o := adopt(t, s, "content")
		commit(t, s, "a", o)
		if err := errors.Join(s.NameResult(t.TempDir(), "//a", []Object{o}), s.Reap()); err != nil || !s.Has(o) {
			t.Errorf("%s: the store does not work: %v", name, err)
		}
		sound(t, s)
		check(t, s.Close())
	}
}
