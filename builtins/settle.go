package builtins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/image"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/store"
)

// settle makes of what the script left what the step gives out: nothing in it
// tells when, or that, the step has run. began is when it did, untouched where nothing was
// written to the image. It returns the images that may have bytes of the script's in no file: those that are not what they were and
// not laid out anew.
func (l *lxcExec) settle(ctx context.Context, job *engine.Job, began time.Time, untouched []string) (changed []mountPoint, err error) {
	for _, m := range l.Images {
		clean, err := l.settleImage(ctx, job, m, began, slices.Contains(untouched, m.Target))
		if err != nil {
			return nil, fmt.Errorf("image for %s: %w", m.Target, err)
		}
		if !clean {
			changed = append(changed, m)
		}
	}
	for _, s := range l.Shares {
		if !s.Writable {
			continue
		}
		if err := settleShare(ctx, job, s.Target, began); err != nil {
			return nil, fmt.Errorf("share for %s: %w", s.Target, err)
		}
	}
	return changed, nil
}

// settleImage gives an image that nobody wrote to its old bytes. In another one
// times of the run become the build's, and what the script deleted takes no space, so that
// it is neither kept, copied nor exported. Of file systems other than ext4 and vfat the
// container has set the times that can be set through a mount, and no more is known.
// An image is clean if all of it that may be the script's is in files.
func (l *lxcExec) settleImage(ctx context.Context, job *engine.Job, m mountPoint, began time.Time, untouched bool) (clean bool, err error) {
	path := job.Output(m.Target)
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return false, err
	}
	ext := strings.HasPrefix(info.Type, "ext")
	if l.Canonical && !ext {
		return false, fmt.Errorf("canonical: it holds %s, and only ext4 can be laid out anew", info.Type)
	}
	if l.Canonical {
		// What is in files has moved, also what they had before.
		return true, image.Canonicalize(ctx, path, job.Epoch())
	}
	written, err := job.Written("image "+m.Target, m.Target)
	if err != nil {
		return false, err
	}
	if clean, err = revert(ctx, job, m, written, untouched); err != nil || clean || !ext && info.Type != "vfat" {
		return clean, err
	}
	if err := fsys.Settle(ctx, path, written, began, job.Epoch()); err != nil {
		job.Logf("b9: image for %s: %v", m.Target, err)
		return false, nil
	}
	if !ext {
		return false, nil // which has been trimmed, too
	}
	if _, err := fsys.Trim(ctx, path); err != nil {
		job.Logf("b9: image for %s: %v", m.Target, err)
	}
	return false, nil
}

// revert gives an image its old bytes if it holds what it held before the run, and
// reports whether it does.
func revert(ctx context.Context, job *engine.Job, m mountPoint, written fsys.Parts, untouched bool) (same bool, err error) {
	before, err := image.OpenInput(ctx, job, "image "+m.Target, m.Format, image.Undeclared())
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, before.Close()) }()
	if untouched {
		if same, err = fsys.Restore(ctx, before, job.Output(m.Target), written); same || err != nil {
			return same, err
		}
	}
	same, err = fsys.Revert(ctx, before, job.Output(m.Target), written)
	if err != nil && !same && context.Cause(ctx) == nil {
		job.Logf("b9: image for %s: %v", m.Target, err) // a file system that can't be read here counts as written to
		return false, nil
	}
	return same, err
}

// settleShare removes sockets, which can't be stored, and gives everything that was
// modified since the step began, as the coarsest program keeps it, the build's time. What chattr(1) has protected it
// opens: a directory has no such attributes where it is stored.
func settleShare(ctx context.Context, job *engine.Job, target string, began time.Time) error {
	dir := job.Output(target)
	err := walk(ctx, dir, func(file, rel string, d fs.DirEntry) error {
		switch {
		case d.IsDir():
			return store.Unprotect(file)
		case d.Type()&fs.ModeSocket == 0:
			return nil
		}
		job.Logf("b9: %s is a socket and is left out: nothing listens there after the script", path.Join(target, rel))
		return os.Remove(file)
	})
	if err == nil {
		err = walk(ctx, dir, func(file, _ string, d fs.DirEntry) error {
			info, err := d.Info()
			if err != nil || info.ModTime().Before(began.Truncate(tree.Coarsest)) {
				return err
			}
			return stamp(file, job.Epoch())
		})
	}
	if errors.Is(err, unix.ENAMETOOLONG) {
		return fmt.Errorf("a path in it is longer than %d bytes, which no program can open: remove it in the script", unix.PathMax-1)
	}
	return err
}

// stamp sets the time of a file, which may be protected.
func stamp(file string, at time.Time) error {
	ts := unix.NsecToTimespec(at.UnixNano())
	set := func() error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	}
	err := set()
	if errors.Is(err, unix.EPERM) {
		if err = store.Unprotect(file); err == nil {
			err = set()
		}
	}
	if err != nil {
		return fmt.Errorf("set the time of %s: %w", file, err)
	}
	return nil
}

// fileClock is the time that the kernel would stamp a file with now: that of its
// last tick.
func fileClock() (time.Time, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
		return time.Time{}, fmt.Errorf("the clock of files: %w", err)
	}
	return time.Unix(now.Unix()), nil
}
