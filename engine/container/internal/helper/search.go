//go:build cgo

package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
)

// What a command leaves is searched for secrets by process 1, when no other process
// is left and every mount is still in its place: the kernel shows files whole, however
// a file system keeps them. What was not changed since the command began needs no
// look; the kernel sets the time of change, and no program can set it. Where the clock
// was corrected meanwhile there is a margin.

// clockMargin is how far a clock is supposed to be set back during a run.
const clockMargin = time.Hour

// hunt is one search.
type hunt struct {
	set   *secret.Set
	since int64                   // Unix time, nanoseconds
	known map[container.Leak]bool // those that were there before
	most  int                     // how many leaks are enough, 0 for no number
	leaks []container.Leak
	xattr []byte // buffer
}

func (g *guest) newHunt() *hunt {
	return &hunt{set: secret.Searching(g.req.Secrets), xattr: make([]byte, unix.PathMax), known: map[container.Leak]bool{}}
}

// huntBefore notes what is in the way of the search, before the command begins, where
// that has to look at everything. A request to stop cuts it short: it waits for the
// command, which is not let run then.
func (g *guest) huntBefore() error {
	g.search = g.newHunt()
	if len(g.req.Secrets) == 0 {
		return nil
	}
	ctx, cancel := g.cmds.untilStop()
	defer cancel()
	h := g.newHunt()
	err := g.searchMounts(ctx, h, func(timed bool) bool { return !timed })
	for _, l := range h.leaks {
		g.search.known[l] = true
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// huntIn has what the command left searched, unless it is told to stop meanwhile.
func (g *guest) huntIn(out *outcome) {
	ctx, cancel := g.cmds.untilStop()
	defer cancel()
	leaks, err := g.hunt(ctx)
	switch {
	case ctx.Err() != nil:
		out.Stopped = true
	case err != nil:
		out.Error = err.Error()
	default:
		out.Leaks, out.Searched = leaks, true
	}
}

// hunts tells whether what a command left is searched after that end.
func (g *guest) hunts(out *outcome) bool { return len(g.req.Secrets) > 0 && !out.Stopped }

// hunt searches what the command can have written since it began. The context ends it.
func (g *guest) hunt(ctx context.Context) ([]container.Leak, error) {
	h := g.search
	h.most = container.MaxLeaks
	err := g.searchMounts(ctx, h, func(timed bool) bool {
		h.since = 0
		if timed {
			h.since = g.root.account.since.Nano()
			if !g.root.account.steady() {
				h.since -= clockMargin.Nanoseconds()
			}
		}
		return true
	})
	return h.leaks, err
}

// searchMounts searches the writable mounts that use accepts, which hears whether the
// time of change is believed there.
func (g *guest) searchMounts(ctx context.Context, h *hunt, use func(timed bool) bool) error {
	for _, m := range g.req.Spec.Mounts {
		if m.ReadOnly || m.Kind == container.Tmpfs {
			continue
		}
		dir, err := g.root.open(m.Target, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return fmt.Errorf("search for secrets: %w", err)
		}
		timed, err := keepsChanges(dir, m.Kind)
		if err != nil {
			dir.Close()
			return fmt.Errorf("search for secrets: %w", err)
		}
		if !use(timed) {
			dir.Close()
			continue
		}
		switch err := h.dir(ctx, dir, m.Target); {
		case errors.Is(err, secret.ErrStop):
			return nil
		case err != nil:
			return fmt.Errorf("search for secrets: %w", err)
		}
	}
	return nil
}

// keepsChanges reports whether a mount is known to keep, for each file, when it
// was changed last, in its content, name or attributes. That of an image through FUSE is served
// by b9, which does, once it has what was written through a mapping.
func keepsChanges(dir *os.File, kind container.MountKind) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC:
		return true, nil
	case unix.FUSE_SUPER_MAGIC:
		if kind == container.Image {
			return true, os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
		}
	}
	return false, nil
}

// dir searches what is in a directory, and closes it. It does not leave the mount.
func (h *hunt) dir(ctx context.Context, dir *os.File, at string) error {
	defer dir.Close()
	if err := ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: at, Err: err}
	}
	if changedSince(&st, h.since) {
		if err := h.attributes(fdPath(dir)+"/.", at); err != nil {
			return err
		}
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := h.entry(ctx, dir, name, below(at, name)); err != nil {
			return err
		}
	}
	return nil
}

func below(dir, name string) string {
	if dir == "/" {
		return dir + name
	}
	return dir + "/" + name
}

// entry searches one name of a directory, and what is below it.
func (h *hunt) entry(ctx context.Context, dir *os.File, name, at string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: at, Err: err}
	}
	changed := changedSince(&st, h.since)
	if changed {
		if err := h.text([]byte(name), at, "the name"); err != nil {
			return err
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		sub, err := openInside(int(dir.Fd()), name, at)
		if sub == nil {
			return err // a mount, which is searched by itself
		}
		return h.dir(ctx, sub, at)
	}
	if !changed {
		return nil
	}
	if err := h.attributes(fdPath(dir)+"/"+name, at); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		target, err := os.Readlink(fdPath(dir) + "/" + name)
		if err != nil {
			return err
		}
		return h.text([]byte(target), at, "the target")
	case unix.S_IFREG:
		return h.file(ctx, dir, name, at)
	}
	return nil
}

// file searches the content of a file.
func (h *hunt) file(ctx context.Context, dir *os.File, name, at string) error {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: at, Err: err}
	}
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	var leak error
	err = h.set.Search(ctx, f, func(found secret.Found) error {
		l := container.Leak{Path: at, Secret: found.Name, Form: found.Form}
		if h.isKnown(l) {
			return nil // there may be another one
		}
		leak = h.add(l)
		return secret.ErrStop
	})
	return errors.Join(err, leak)
}

func (h *hunt) text(text []byte, at, part string) error {
	found, ok := h.set.In(text)
	if !ok {
		return nil
	}
	return h.add(container.Leak{Path: at, Part: part, Secret: found.Name, Form: found.Form})
}

// attributes searches names and values of extended attributes.
func (h *hunt) attributes(path, at string) error {
	list, err := h.readAttribute(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil || len(list) == 0 {
		return err
	}
	if err := h.text(list, at, "an attribute"); err != nil {
		return err
	}
	start := 0
	for i, c := range list {
		if c != 0 {
			continue
		}
		value, err := h.readAttribute(func(buf []byte) (int, error) { return unix.Lgetxattr(path, string(list[start:i]), buf) })
		if err != nil {
			return &os.PathError{Op: "getxattr", Path: at, Err: err}
		}
		if err := h.text(value, at, "an attribute"); err != nil {
			return err
		}
		start = i + 1
	}
	return nil
}

// readAttribute reads with a buffer as large as it needs. What has no attributes has
// none to be searched.
func (h *hunt) readAttribute(read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(h.xattr)
		switch {
		case err == nil:
			return slices.Clone(h.xattr[:n]), nil
		case errors.Is(err, unix.ERANGE) && len(h.xattr) < 1<<20:
			h.xattr = make([]byte, 2*len(h.xattr))
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENODATA):
			return nil, nil
		default:
			return nil, err
		}
	}
}

// isKnown reports whether a leak was there before the command.
func (h *hunt) isKnown(l container.Leak) bool {
	l.Path = h.set.Masked(l.Path)
	return h.known[l]
}

// add keeps a leak. ErrStop says that there are enough.
func (h *hunt) add(l container.Leak) error {
	l.Path = h.set.Masked(l.Path)
	if h.known[l] {
		return nil
	}
	h.leaks = append(h.leaks, l)
	if len(h.leaks) == h.most {
		return secret.ErrStop
	}
	return nil
}
