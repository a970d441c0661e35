package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fullError says which file system is full, of what, and what to do about it.
type fullError struct {
	text string
	err  error
}

func (e *fullError) Error() string { return e.text + ": " + e.err.Error() }

func (e *fullError) Unwrap() error { return e.err }

// SpaceError says more about an error that tells of a full disk: the place, the
// file system of at that is full; whether its blocks or its table of inodes; and
// the way out. Other errors pass unchanged.
func SpaceError(at string, err error) error { return spaceError("", at, err) }

// spaceError is SpaceError where the way out may be a collection: at lies on the
// file system of the store in dir.
func spaceError(dir, at string, err error) error {
	full := errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
	if !full || errors.As(err, new(*fullError)) {
		return err
	}
	what := lacking(at)
	if dir != "" && sameFileSystem(dir, at) {
		return &fullError{fmt.Sprintf("no %s left for %s: free some with `b9 cache gc`", what, dir), err}
	}
	return &fullError{fmt.Sprintf("no %s left on the file system of %s: free some there", what, at), err}
}

// Lacking is what a full disk of the store has none left of, in words.
func (s *Store) Lacking() string { return lacking(s.dir) }

func lacking(at string) string {
	if noInodes(at) {
		return "inodes (it holds as many files as it can)"
	}
	return "space"
}

// annotate adds what a method was about to its error and, where the disk of at is
// full, the way out.
func (s *Store) annotate(err *error, at, format string, args ...any) {
	if *err != nil {
		*err = spaceError(s.dir, at, fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), *err))
	}
}

// onPath calls fn for at or, where that is not there, for the directory nearest
// above it that is.
func onPath(at string, fn func(string) error) error {
	for {
		err := ignoringEINTR(func() error { return fn(at) })
		up := filepath.Dir(at)
		if err == nil || up == at || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		at = up
	}
}

// noInodes reports whether the file system of at has room, but not for one more file.
func noInodes(at string) bool {
	var st unix.Statfs_t
	err := onPath(at, func(p string) error { return unix.Statfs(p, &st) })
	return err == nil && st.Files > 0 && st.Ffree == 0 && st.Bavail > 0
}

func sameFileSystem(a, b string) bool {
	var at, bt unix.Stat_t
	err := errors.Join(
		onPath(a, func(p string) error { return unix.Stat(p, &at) }),
		onPath(b, func(p string) error { return unix.Stat(p, &bt) }))
	return err == nil && at.Dev == bt.Dev
}
