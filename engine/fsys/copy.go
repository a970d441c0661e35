package fsys

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/sparse"
)

// CopyOptions say what Copy keeps beyond data, permissions and times.
type CopyOptions struct {
	// Owners also keeps owners, setuid and setgid bits, extended attributes and
	// devices, as root can. Without it devices are left out.
	Owners bool
	// Skipped is told of every object that was left out, and why. nil ignores it.
	Skipped func(name, why string)
}

// Copy copies the file, link or directory called name out of an image to the
// path as beneath dst. A file that is there is replaced when its copy is
// complete and on the disk, a directory that is there is added to; one that is not
// there appears when all that is in it is complete. Nothing outside of
// dst is written to, whatever links lie in it or in the image. Holes stay holes; hard
// links within a copied directory stay links. When Copy returns without an error, all
// of it survives a power loss.
func Copy(ctx context.Context, r tree.Reader, name string, dst *os.Root, as string, o CopyOptions) error {
	c := &copier{ctx: ctx, r: r, dst: dst, o: o, names: make(map[uint64]string), dirs: make(map[uint64]bool), buf: make([]byte, 256<<10)}
	info, err := r.Lstat(name)
	if err != nil {
		return err
	}
	if c.due, err = newCommits(dst); err != nil {
		return err
	}
	to := as
	if _, err := dst.Lstat(as); info.IsDir() && errors.Is(err, fs.ErrNotExist) {
		to = c.due.temp(as)
	}
	err = c.copy(name, to, info)
	if err = errors.Join(err, c.due.close(err == nil)); to == as {
		return err
	}
	if err == nil {
		err = moveDir(dst, to, as)
	}
	if err != nil {
		err = errors.Join(err, dst.RemoveAll(to))
	}
	return err
}

// moveDir gives a directory another name beside the old one, on the disk.
func moveDir(dst *os.Root, from, to string) error {
	if err := dst.Rename(from, to); err != nil {
		return err
	}
	parent, err := dst.Open(path.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

type copier struct {
	ctx   context.Context
	r     tree.Reader
	dst   *os.Root
	o     CopyOptions
	names map[uint64]string // inode to where it went first
	dirs  map[uint64]bool   // directories that were copied
	due   *commits
	buf   []byte
}

func (c *copier) copy(name, as string, info fs.FileInfo) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	st := info.Sys().(*tree.Attr)
	if info.IsDir() {
		return c.directory(name, as, info, st)
	}
	var fill func(tmp string) error
	switch first, copied := c.names[st.Inode]; {
	case copied && st.Links > 1:
		return c.due.then(func() error { return c.replace(as, func(tmp string) error { return c.dst.Link(first, tmp) }) })
	case info.Mode().IsRegular():
		if have, err := c.dst.Lstat(as); err == nil && have.Mode()&(fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
			return fmt.Errorf("%s: %w", path.Join(c.dst.Name(), as), newfile.NotReplaced(have))
		}
		if err := c.file(name, as, info); err != nil {
			return err
		}
		if st.Links > 1 {
			c.names[st.Inode] = as
		}
		return nil
	case info.Mode()&fs.ModeSymlink != 0:
		fill = func(tmp string) error { return c.link(name, tmp, info) }
	case info.Mode()&fs.ModeSocket != 0:
		c.skip(name, "is a socket")
		return nil
	case !c.o.Owners:
		c.skip(name, "is a device or pipe, which only root makes")
		return nil
	default:
		fill = func(tmp string) error { return c.device(name, tmp, info) }
	}
	if err := c.replace(as, fill); err != nil {
		return err
	}
	if st.Links > 1 {
		c.names[st.Inode] = as
	}
	return nil
}

func (c *copier) skip(name, why string) {
	if c.o.Skipped != nil {
		c.o.Skipped(name, why)
	}
}

// replace makes something under a temporary name beside as, then renames it.
func (c *copier) replace(as string, fill func(tmp string) error) error {
	tmp := c.due.temp(as)
	err := fill(tmp)
	if err == nil {
		err = c.dst.Rename(tmp, as)
	}
	c.dst.Remove(tmp) // after an error, and where both were names of one file
	return err
}

func (c *copier) directory(name, as string, info fs.FileInfo, st *tree.Attr) error {
	if c.dirs[st.Inode] {
		return &fs.PathError{Op: "copy", Path: name, Err: volume.Damaged("the directory lies in two places")}
	}
	c.dirs[st.Inode] = true
	if have, err := c.dst.Lstat(as); err == nil && !have.IsDir() {
		return fmt.Errorf("%s is a directory, and %s is there and is none", name, as)
	} else if err != nil {
		if err := c.dst.Mkdir(as, 0o700); err != nil {
			return err
		}
	}
	list, err := c.r.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range list {
		child, err := e.Info()
		if err != nil {
			return err
		}
		if err := c.copy(path.Join(name, e.Name()), path.Join(as, e.Name()), child); err != nil {
			return err
		}
	}
	if as == "." { // the destination itself stays as it is
		return nil
	}
	return c.due.then(func() error { // what comes to be in it changes its time
		f, err := c.dst.Open(as)
		if err != nil {
			return err
		}
		return errors.Join(c.attributes(f, name, info), f.Close())
	})
}

// file copies a regular file, which gets its name later.
func (c *copier) file(name, as string, info fs.FileInfo) error {
	in, err := c.r.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, temp, err := c.due.create(as)
	if err != nil {
		return err
	}
	if err := c.sparse(out, in, info.Size()); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), c.due.abandon(out, temp))
	}
	if err := c.attributes(out, name, info); err != nil {
		return errors.Join(err, c.due.abandon(out, temp))
	}
	return c.due.name(out, temp, as, info.Size())
}

// data is what a regular file of a Reader can do.
type data interface {
	io.ReaderAt
	tree.HoleSkipper
}

// sparse copies data and leaves zeros out.
func (c *copier) sparse(out *os.File, in fs.File, size int64) error {
	src := in.(data)
	for off := int64(0); off < size; {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		next, err := src.NextData(off)
		if err != nil {
			return err
		}
		if off = next; off >= size {
			break
		}
		b := c.buf[:min(int64(len(c.buf)), size-off)]
		if n, err := src.ReadAt(b, off); n < len(b) {
			return err
		}
		if err := writeData(out, b, off); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return out.Truncate(size)
}

// writeData writes the runs of b that are not zeros.
func writeData(out *os.File, b []byte, off int64) error {
	for from, to := range sparse.Runs(b, 4096) {
		if _, err := out.WriteAt(b[from:to], off+int64(from)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) link(name, tmp string, info fs.FileInfo) error {
	target, err := c.r.ReadLink(name)
	if err != nil {
		return err
	}
	if target == "" || strings.IndexByte(target, 0) >= 0 {
		return &fs.PathError{Op: "copy", Path: name, Err: volume.Damaged("a link to nothing")}
	}
	return c.special(name, tmp, info, func(dir int, base string) error { return unix.Symlinkat(target, dir, base) })
}

func (c *copier) device(name, tmp string, info fs.FileInfo) error {
	mode, err := tree.UnixMode(info.Mode().Type())
	if err != nil {
		return err
	}
	st := info.Sys().(*tree.Attr)
	return c.special(name, tmp, info, func(dir int, base string) error {
		return unix.Mknodat(dir, base, mode&unix.S_IFMT|0o600, int(unix.Mkdev(st.Major, st.Minor)))
	})
}

// special lets make make what is no file, in the directory that holds tmp, and sets
// its attributes without opening it.
func (c *copier) special(name, tmp string, info fs.FileInfo, make func(dir int, base string) error) error {
	mode, err := tree.UnixMode(info.Mode())
	if err != nil {
		return err
	}
	parent, err := c.dst.Open(path.Dir(tmp))
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, base, st := int(parent.Fd()), path.Base(tmp), info.Sys().(*tree.Attr)
	err = make(dir, base)
	if err == nil && c.o.Owners {
		err = unix.Fchownat(dir, base, int(st.UID), int(st.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil && info.Mode()&fs.ModeSymlink == 0 {
		err = unix.Fchmodat(dir, base, mode&0o7777, 0)
	}
	if err == nil {
		at := timespecs(info.ModTime())
		err = unix.UtimesNanoAt(dir, base, at[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// attributes are set on the open copy, the mode after the owner, which clears
// some of it, and times last.
func (c *copier) attributes(f *os.File, name string, info fs.FileInfo) error {
	mode, err := tree.UnixMode(info.Mode())
	if err != nil {
		return err
	}
	bits := uint32(info.Mode().Perm())
	if c.o.Owners {
		bits |= mode & 0o7000
		st := info.Sys().(*tree.Attr)
		if err := f.Chown(int(st.UID), int(st.GID)); err != nil {
			return err
		}
		if err := c.setXattrs(f, name); err != nil {
			return err
		}
	} else {
		bits |= mode & unix.S_ISVTX
	}
	if err := unix.Fchmod(int(f.Fd()), bits); err != nil {
		return &fs.PathError{Op: "chmod", Path: f.Name(), Err: err}
	}
	at := timespecs(info.ModTime())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at[:], 0); err != nil {
		return &fs.PathError{Op: "set times", Path: f.Name(), Err: err}
	}
	return nil
}

func (c *copier) setXattrs(f *os.File, name string) error {
	list, err := c.r.Xattrs(name)
	if err != nil {
		return err
	}
	for k, v := range list {
		err := unix.Fsetxattr(int(f.Fd()), k, []byte(v), 0)
		// ENOSPC: larger than the destination has room for beside a file
		if slices.ContainsFunc([]error{unix.ENOTSUP, unix.EPERM, unix.ENOSPC, unix.E2BIG, unix.ERANGE}, func(e error) bool { return errors.Is(err, e) }) {
			c.skip(name, "keeps its extended attribute "+k+" to itself: the destination does not take it")
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: extended attribute %s: %w", name, k, err)
		}
	}
	return nil
}

// timespecs are access and modification time, both t.
func timespecs(t time.Time) [2]unix.Timespec {
	ts := unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
	return [2]unix.Timespec{ts, ts}
}
