package fuse

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/tree"
)

// source is a file system that is only read.
type source struct {
	server *service
	size   int64 // bytes

	mu     sync.Mutex // readers serve one at a time
	reader tree.Reader
}

// errno is service.errno of an error of the reader, which wraps what it refuses.
func (s *source) errno(err error) unix.Errno {
	var n unix.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return unix.ENOENT
	case errors.As(err, &n):
		return n
	}
	return s.server.errno(err)
}

// file is an object of a source. One with several names has the one that it was first
// found by.
type file struct {
	nodefs.Inode
	src  *source
	name string
}

var _ interface {
	nodefs.NodeLookuper
	nodefs.NodeGetattrer
	nodefs.NodeReaddirer
	nodefs.NodeReadlinker
	nodefs.NodeOpener
	nodefs.NodeGetxattrer
	nodefs.NodeListxattrer
	nodefs.NodeStatfser
} = (*file)(nil)

// fill describes an object.
func (s *source) fill(info fs.FileInfo, out *gofuse.Attr) unix.Errno {
	mode, err := unixMode(info.Mode())
	if err != nil {
		return s.server.errno(err)
	}
	st := info.Sys().(*tree.Attr)
	out.Mode, out.Size, out.Nlink = mode, uint64(info.Size()), max(1, st.Links)
	out.Uid, out.Gid = st.UID, st.GID
	out.Rdev = uint32(unix.Mkdev(st.Major, st.Minor))
	at := info.ModTime()
	out.SetTimes(&at, &at, &at)
	out.Blksize, out.Blocks = 4096, (out.Size+511)/512
	if s.reader.Type() == "vfat" {
		out.Mode |= programs
	}
	return 0
}

// programs are the permissions that a file system without any gives to all files, as
// the kernel's vfat does.
const programs = 0o111

// unixMode is tree.UnixMode of a mode that was read, in which no permissions are none.
func unixMode(m fs.FileMode) (uint32, error) {
	mode, err := tree.UnixMode(m | 0o400)
	return mode&^0o777 | uint32(m.Perm()), err
}

// Lookup implements nodefs.NodeLookuper.
func (f *file) Lookup(ctx context.Context, name string, out *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	at := path.Join(f.name, name)
	info, err := f.src.reader.Lstat(at)
	if err != nil {
		return nil, f.src.errno(err)
	}
	if n := f.src.fill(info, &out.Attr); n != 0 {
		return nil, n
	}
	if known := f.GetChild(name); known != nil {
		return known, 0
	}
	id := nodefs.StableAttr{Mode: out.Mode & unix.S_IFMT}
	if st := info.Sys().(*tree.Attr); st.Links > 1 && !info.IsDir() {
		id.Ino = st.Inode // its names are one file
	}
	return f.NewInode(ctx, &file{src: f.src, name: at}, id), 0
}

// Getattr implements nodefs.NodeGetattrer.
func (f *file) Getattr(_ context.Context, _ nodefs.FileHandle, out *gofuse.AttrOut) unix.Errno {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	info, err := f.src.reader.Lstat(f.name)
	if err != nil {
		return f.src.errno(err)
	}
	return f.src.fill(info, &out.Attr)
}

// Readdir implements nodefs.NodeReaddirer.
func (f *file) Readdir(context.Context) (nodefs.DirStream, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	list, err := f.src.reader.ReadDir(f.name)
	if err != nil {
		return nil, f.src.errno(err)
	}
	entries := dots()
	for _, e := range list {
		mode, err := unixMode(e.Type())
		if err != nil {
			return nil, f.src.errno(err)
		}
		entries = append(entries, gofuse.DirEntry{Name: e.Name(), Mode: mode & unix.S_IFMT})
	}
	return nodefs.NewListDirStream(entries), 0
}

// Readlink implements nodefs.NodeReadlinker.
func (f *file) Readlink(context.Context) ([]byte, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	target, err := f.src.reader.ReadLink(f.name)
	if err != nil {
		return nil, f.src.errno(err)
	}
	return []byte(target), 0
}

// Open implements nodefs.NodeOpener.
func (f *file) Open(context.Context, uint32) (nodefs.FileHandle, uint32, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	in, err := f.src.reader.Open(f.name)
	if err != nil {
		return nil, 0, f.src.errno(err)
	}
	data, ok := in.(io.ReaderAt)
	if !ok {
		return nil, 0, unix.EIO
	}
	return &handle{f.src, data}, gofuse.FOPEN_KEEP_CACHE, 0
}

// handle is an open file.
type handle struct {
	src  *source
	data io.ReaderAt
}

// Read implements nodefs.FileReader.
func (h *handle) Read(_ context.Context, dest []byte, off int64) (gofuse.ReadResult, unix.Errno) {
	h.src.mu.Lock()
	defer h.src.mu.Unlock()
	n, err := h.data.ReadAt(dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, h.src.errno(err)
	}
	return gofuse.ReadResultData(dest[:n]), 0
}

// Getxattr implements nodefs.NodeGetxattrer.
func (f *file) Getxattr(_ context.Context, attr string, dest []byte) (uint32, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	list, err := f.src.reader.Xattrs(f.name)
	if err != nil {
		return 0, f.src.errno(err)
	}
	value, ok := list[attr]
	if !ok {
		return 0, unix.ENODATA
	}
	return answer(dest, value)
}

// Listxattr implements nodefs.NodeListxattrer. Names of attributes that only root of the
// machine may read are listed to nobody else, as with the kernel's drivers; the kernel
// itself refuses the values.
func (f *file) Listxattr(ctx context.Context, dest []byte) (uint32, unix.Errno) {
	f.src.mu.Lock()
	defer f.src.mu.Unlock()
	list, err := f.src.reader.Xattrs(f.name)
	if err != nil {
		return 0, f.src.errno(err)
	}
	var names string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		if strings.HasPrefix(name, "trusted.") && !calledByRoot(ctx) {
			continue
		}
		names += name + "\x00"
	}
	return answer(dest, names)
}

// answer copies a value, or tells how long it is.
func answer(dest []byte, value string) (uint32, unix.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), unix.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// Statfs implements nodefs.NodeStatfser.
func (f *file) Statfs(_ context.Context, out *gofuse.StatfsOut) unix.Errno {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, tree.MaxName
	out.Blocks = uint64(f.src.size) / 4096
	return 0
}
