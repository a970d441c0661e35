package overlay

import (
	"context"
	"errors"
	"io"
	"os"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/internal/layer"
)

// name is that of the file in its file system.
const name = "image"

// root is the only directory.
type root struct {
	nodefs.Inode
	image *node
}

// OnAdd implements nodefs.NodeOnAdder.
func (r *root) OnAdd(ctx context.Context) {
	r.AddChild(name, r.NewPersistentInode(ctx, r.image, nodefs.StableAttr{Mode: unix.S_IFREG, Ino: 2}), false)
}

// node is the file. Nothing of it is kept in memory by the kernel (FOPEN_DIRECT_IO):
// what is read and written is in memory once, as part of the files below, and a loop
// device sees what a program has written at once.
type node struct {
	nodefs.Inode
	progress
	fork  *layer.Fork
	below unix.Statfs_t // of the file system that takes what is written
	ended chan struct{}
}

var _ interface {
	nodefs.NodeGetattrer
	nodefs.NodeSetattrer
	nodefs.NodeOpener
	nodefs.NodeReader
	nodefs.NodeWriter
	nodefs.NodeAllocater
	nodefs.NodeLseeker
	nodefs.NodeFsyncer
	nodefs.NodeStatfser
} = (*node)(nil)

// errno is the number of an error of the files below.
func errno(err error) unix.Errno {
	var n unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return n
	}
	return unix.EIO
}

// Getattr implements nodefs.NodeGetattrer.
func (n *node) Getattr(_ context.Context, _ nodefs.FileHandle, out *gofuse.AttrOut) unix.Errno {
	out.Mode, out.Nlink = unix.S_IFREG|0o600, 1
	out.Size, out.Blksize = uint64(n.fork.Size()), layer.BlockSize
	out.Blocks = (out.Size + 511) / 512
	out.Uid, out.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
	return 0
}

// Setattr implements nodefs.NodeSetattrer: it changes the size. What else there is of
// attributes does not outlive the mount, and stays.
func (n *node) Setattr(ctx context.Context, h nodefs.FileHandle, in *gofuse.SetAttrIn, out *gofuse.AttrOut) unix.Errno {
	n.begin()
	defer n.end()
	if size, ok := in.GetSize(); ok {
		if size > 1<<62 {
			return unix.EFBIG
		}
		if err := n.fork.Truncate(int64(size)); err != nil {
			return errno(err)
		}
	}
	return n.Getattr(ctx, h, out)
}

// Open implements nodefs.NodeOpener.
func (n *node) Open(context.Context, uint32) (nodefs.FileHandle, uint32, unix.Errno) {
	return nil, gofuse.FOPEN_DIRECT_IO, 0
}

// splicing is from which size on, in bytes, it costs less to pass a file's bytes on by
// splice(2) than to copy them.
const splicing = 32 << 10

// Read implements nodefs.NodeReader.
func (n *node) Read(_ context.Context, _ nodefs.FileHandle, p []byte, off int64) (gofuse.ReadResult, unix.Errno) {
	n.begin()
	defer n.end()
	k, err := blob.Clip(len(p), off, n.fork.Size())
	if err != nil && err != io.EOF {
		return nil, unix.EINVAL
	}
	if k >= splicing {
		if fd, ok := layer.Direct(n.fork, off, k); ok {
			return n.spliced(fd, off, k), 0
		}
	}
	k, err = n.fork.ReadAt(p[:k], off)
	if err != nil && err != io.EOF {
		return nil, errno(err)
	}
	return gofuse.ReadResultData(p[:k]), 0
}

// Write implements nodefs.NodeWriter.
func (n *node) Write(_ context.Context, _ nodefs.FileHandle, p []byte, off int64) (uint32, unix.Errno) {
	n.begin()
	defer n.end()
	k, err := n.fork.WriteAt(p, off)
	return uint32(k), errno(err)
}

// Allocate implements nodefs.NodeAllocater: the discards of a loop device become holes.
// No room is set aside for what is not written, as a copy with holes has none either.
func (n *node) Allocate(_ context.Context, _ nodefs.FileHandle, off, length uint64, mode uint32) unix.Errno {
	n.begin()
	defer n.end()
	if off > 1<<61 || length > 1<<61 {
		return unix.EFBIG
	}
	end := int64(off + length)
	switch mode {
	case unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE:
		return errno(n.fork.Zero(int64(off), int64(length)))
	case unix.FALLOC_FL_KEEP_SIZE:
		return 0
	case 0, unix.FALLOC_FL_ZERO_RANGE:
		err := error(nil)
		if mode != 0 {
			err = n.fork.Zero(int64(off), int64(length))
		}
		if err == nil && end > n.fork.Size() {
			err = n.fork.Truncate(end)
		}
		return errno(err)
	}
	return unix.EOPNOTSUPP
}

// Lseek implements nodefs.NodeLseeker: it finds data and holes.
func (n *node) Lseek(_ context.Context, _ nodefs.FileHandle, off uint64, whence uint32) (uint64, unix.Errno) {
	n.begin()
	defer n.end()
	size := n.fork.Size()
	if whence != unix.SEEK_DATA && whence != unix.SEEK_HOLE {
		return 0, unix.EINVAL
	}
	if off >= uint64(size) {
		return 0, unix.ENXIO
	}
	for at := int64(off); at < size; {
		e, err := n.fork.Extent(at)
		if err != nil {
			return 0, errno(err)
		}
		if (e.State == blob.Data) == (whence == unix.SEEK_DATA) {
			return uint64(at), 0
		}
		at = e.End()
	}
	if whence == unix.SEEK_DATA {
		return 0, unix.ENXIO
	}
	return uint64(size), 0
}

// Fsync implements nodefs.NodeFsyncer. What is written here does not outlive b9 until
// it is stored, when it is flushed.
func (n *node) Fsync(context.Context, nodefs.FileHandle, uint32) unix.Errno { return 0 }

// Statfs implements nodefs.NodeStatfser: as the file system below, whose block size is
// the grain of a loop device's discards.
func (n *node) Statfs(_ context.Context, out *gofuse.StatfsOut) unix.Errno {
	st := &n.below
	out.Bsize, out.Frsize, out.NameLen = uint32(max(st.Bsize, 512)), uint32(max(st.Frsize, 512)), 255
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	return 0
}
