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
// complete, a directory that is there is added to. Nothing outside of dst is
// written to, whatever links lie in it or in the image. Holes stay holes; hard
// links within a copied directory stay links.
func Copy(ctx context.Context, r tree.Reader, name string, dst *os.Root, as string, o CopyOptions) error {
	c := &copier{ctx: ctx, r: r, dst: dst, o: o, names: make(map[uint64]string), dirs: make(map[uint64]bool), buf: make([]byte, 256<<10)}
	info, err := r.Lstat(name)
	if err != nil {
		return err
	}
	return c.copy(name, as, info)
}

type copier struct {
	ctx   context.Context
	r     tree.Reader
	dst   *os.Root
	o     CopyOptions
	names map[uint64]string // inode to where it went first
	dirs  map[uint64]bool   // directories that were copied
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
	if first, ok := c.names[st.Inode]; ok && st.Links > 1 {
		return c.replace(as, func(tmp string) error { return c.dst.Link(first, tmp) })
	}
	var err error
	switch info.Mode().Type() {
	case 0:
		err = c.replace(as, func(tmp string) error { return c.file(name, tmp, info) })
	case fs.ModeSymlink:
		err = c.replace(as, func(tmp string) error { return c.link(name, tmp, info, st) })
	case fs.ModeSocket:
		c.skip(name, "is a socket")
		return nil
	default:
		if !c.o.Owners {
			c.skip(name, "is a device or pipe, which only root makes")
			return nil
		}
		err = c.replace(as, func(tmp string) error { return c.device(name, tmp, info, st) })
	}
	if err == nil && st.Links > 1 {
		c.names[st.Inode] = as
	}
	return err
}

func (c *copier) skip(name, why string) {
	if c.o.Skipped != nil {
		c.o.Skipped(name, why)
	}
}

// replace makes something under a temporary name beside as, then renames it.
func (c *copier) replace(as string, fill func(tmp string) error) error {
	tmp := path.Join(path.Dir(as), fmt.Sprintf(".b9-copy-%d", os.Getpid()))
	c.dst.Remove(tmp) // of a process that died and had the same number
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
	f, err := c.dst.Open(as)
	if err != nil {
		return err
	}
	return errors.Join(c.attributes(f, name, info), f.Close())
}

func (c *copier) file(name, tmp string, info fs.FileInfo) (err error) {
	in, err := c.r.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := c.dst.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := c.sparse(out, in, info.Size()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return c.attributes(out, name, info)
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
	const unit = 4096
	for at := 0; at < len(b); {
		end := at
		for end < len(b) && !sparse.IsZero(b[end:min(end+unit, len(b))]) {
			end = min(end+unit, len(b))
		}
		if end == at {
			at = min(at+unit, len(b))
			continue
		}
		if _, err := out.WriteAt(b[at:end], off+int64(at)); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (c *copier) link(name, tmp string, info fs.FileInfo, st *tree.Attr) error {
	target, err := c.r.ReadLink(name)
	if err != nil {
		return err
	}
	if target == "" || strings.IndexByte(target, 0) >= 0 {
		return &fs.PathError{Op: "copy", Path: name, Err: volume.Damaged("a link to nothing")}
	}
	if err := c.dst.Symlink(target, tmp); err != nil {
		return err
	}
	if c.o.Owners {
		if err := c.dst.Lchown(tmp, int(st.UID), int(st.GID)); err != nil {
			return err
		}
	}
	return c.inParent(tmp, func(dir int, base string) error {
		at := timespecs(info.ModTime())
		return unix.UtimesNanoAt(dir, base, at[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (c *copier) device(name, tmp string, info fs.FileInfo, st *tree.Attr) error {
	mode, err := tree.UnixMode(info.Mode())
	if err != nil {
		return err
	}
	return c.inParent(tmp, func(dir int, base string) error {
		at := timespecs(info.ModTime())
		err := unix.Mknodat(dir, base, mode&unix.S_IFMT|0o600, int(unix.Mkdev(st.Major, st.Minor)))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := unix.Fchownat(dir, base, int(st.UID), int(st.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if err := unix.Fchmodat(dir, base, mode&0o7777, 0); err != nil {
			return err
		}
		return unix.UtimesNanoAt(dir, base, at[:], unix.AT_SYMLINK_NOFOLLOW)
	})
}

// inParent calls do with the directory that holds a path.
func (c *copier) inParent(p string, do func(dir int, base string) error) error {
	dir, err := c.dst.Open(path.Dir(p))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(int(dir.Fd()), path.Base(p))
}

// attributes are set on the open copy, the mode after the owner, which clears
// some of it, and times last.
func (c *copier) attributes(f *os.File, name string, info fs.FileInfo) error {
	mode, err := tree.UnixMode(info.Mode())
	if err != nil {
		return err
	}
	bits := mode & 0o777
	if info.Mode().Perm() == 0 {
		bits = 0
	}
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
