package tree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/sparse"
)

// FromDir is everything below a directory of the host, other mounts in it
// included: owners, modes, modification times, symbolic and hard links,
// extended attributes (those of the user, trusted and security name spaces and
// POSIX access control lists) and device nodes. The directory's own attributes
// become those of the root. Access and change times, inode numbers and the
// order of directories have no influence. A file that changes its length while
// it is read is an error. Of a process that is not root's, what belongs to its
// user is root's: without root nothing can belong to anyone else.
func FromDir(dir string) Content { return dirContent(dir) }

type dirContent string

func (d dirContent) Close() error { return nil }

func (d dirContent) Load(ctx context.Context, _ string) (*Tree, error) {
	w := dirWalker{ctx: ctx, user: uint32(os.Geteuid()), linked: make(map[devIno]*Inode)}
	root, err := w.inode(string(d))
	if err != nil {
		return nil, err
	}
	if !root.IsDir() {
		return nil, fmt.Errorf("%s: not a directory", string(d))
	}
	if err := w.fill(root, string(d)); err != nil {
		return nil, err
	}
	t := &Tree{Root: root}
	t.seal()
	return t, nil
}

type devIno struct{ dev, ino uint64 }

type dirWalker struct {
	ctx    context.Context
	user   uint32 // of this process
	linked map[devIno]*Inode
	buf    [4096]byte
}

func (w *dirWalker) fill(dir *Inode, p string) error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	names, err := readNames(p)
	if err != nil {
		return err
	}
	dir.Entries = make([]Entry, 0, len(names))
	for _, name := range names {
		child := p + "/" + name
		n, err := w.inode(child)
		if err != nil {
			return err
		}
		dir.Entries = append(dir.Entries, Entry{name, n})
		if n.IsDir() {
			if err := w.fill(n, child); err != nil {
				return err
			}
		}
	}
	return nil
}

func readNames(p string) ([]string, error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	sort.Strings(names)
	return names, err
}

// Inode describes the object at p, or returns the one already described when p
// is another name of it.
func (w *dirWalker) inode(p string) (*Inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: p, Err: err}
	}
	id := devIno{uint64(st.Dev), st.Ino}
	shared := st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR
	if n := w.linked[id]; shared && n != nil {
		return n, nil
	}
	n := &Inode{Mode: st.Mode, UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec)}
	if w.user != 0 && n.UID == w.user {
		n.UID, n.GID = 0, 0
	}
	switch n.Kind() {
	case unix.S_IFREG:
		n.Size = st.Size
		n.Open = hostFile{path: p, size: st.Size, sparse: st.Blocks*512 < st.Size}.Open
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			return nil, err
		}
		n.Target, n.Size = target, int64(len(target))
	}
	var err error
	if n.Xattrs, err = w.xattrs(p); err != nil {
		return nil, err
	}
	if shared {
		w.linked[id] = n
	}
	return n, nil
}

// xattrs reads the extended attributes that an image can carry, by name.
func (w *dirWalker) xattrs(p string) ([]Xattr, error) {
	list, err := filled(w.buf[:], func(b []byte) (int, error) { return unix.Llistxattr(p, b) })
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return nil, &os.PathError{Op: "listxattr", Path: p, Err: err}
	}
	if len(list) == 0 {
		return nil, nil
	}
	var out []Xattr
	for _, name := range strings.Split(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		if !portableXattr(name) {
			continue
		}
		value, err := getXattr(p, name)
		if err != nil {
			return nil, err
		}
		out = append(out, Xattr{name, value})
	}
	sortXattrs(out)
	return out, nil
}

// portableXattr tells attributes of the file from those of the host's file
// system (NFS lists, btrfs properties, overlay marks, and the second name that XFS has
// for access control lists).
func portableXattr(name string) bool {
	switch {
	case strings.HasPrefix(name, "trusted.overlay."), strings.HasPrefix(name, "trusted.SGI_ACL_"):
		return false
	case name == ACLAccess, name == ACLDefault:
		return true
	}
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.")
}

func getXattr(p, name string) ([]byte, error) {
	value, err := filled(make([]byte, 256), func(b []byte) (int, error) { return unix.Lgetxattr(p, name, b) })
	if err != nil {
		return nil, fmt.Errorf("extended attribute %s of %s: %w", name, p, err)
	}
	return value, nil
}

// filled returns what call puts into b, or into 64 KiB where b is too short.
func filled(b []byte, call func([]byte) (int, error)) ([]byte, error) {
	n, err := call(b)
	if errors.Is(err, unix.ERANGE) {
		b = make([]byte, 64<<10)
		n, err = call(b)
	}
	if err != nil {
		return nil, err
	}
	return b[:n:n], nil
}

// hostFile is a regular file of the host, known to be size bytes long.
type hostFile struct {
	path   string
	size   int64
	sparse bool
}

func (h hostFile) Open() (io.ReadCloser, error) {
	fd, err := unix.Open(h.path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: h.path, Err: err}
	}
	return &hostReader{fd: fd, hostFile: h}, nil
}

// hostReader reads with plain system calls: for thousands of small files the
// bookkeeping of os.File would cost as much as the reading.
type hostReader struct {
	hostFile
	fd int
}

func (r *hostReader) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(r.fd, b)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, &os.PathError{Op: "read", Path: r.path, Err: err}
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (r *hostReader) Close() error { return unix.Close(r.fd) }

func (r *hostReader) NextData(off int64) (int64, error) {
	if !r.sparse {
		return off, nil
	}
	pos, err := sparse.Data(r, off, r.size)
	if err != nil {
		pos = off // read on
	}
	return r.Seek(pos, io.SeekStart)
}

func (r *hostReader) Seek(off int64, whence int) (int64, error) {
	return unix.Seek(r.fd, off, whence)
}
