package fuse

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/vfat"
)

// volume is a vfat that is changed. It refuses and ignores what the kernel's driver,
// mounted with umask=0022, does: there are no links, no owners but root, and no
// permissions but write protection.
type volume struct {
	server *service

	mu      sync.Mutex // the editor serves one at a time
	editor  *vfat.Editor
	changes changes
}

// changes are the times of change of what is changed while it is served, by the numbers of
// objects. A vfat keeps none. That of another object, which can't be known, is its time of
// modification, but no later than a day before it was served: so who looks for what was
// changed since then finds all of that and nothing else.
type changes struct {
	before time.Time
	at     map[uint64]time.Time
}

func newChanges() changes {
	const day = 24 * time.Hour
	return changes{before: time.Now().Add(-day), at: map[uint64]time.Time{}}
}

// mark says that an object is changed now.
func (c *changes) mark(o *vfat.Object) { c.at[o.ID] = time.Now() }

// of is the time of change of an object that was modified at a time.
func (c *changes) of(o *vfat.Object, modified time.Time) time.Time {
	if at, ok := c.at[o.ID]; ok {
		return at
	}
	if modified.After(c.before) {
		return c.before
	}
	return modified
}

func (v *volume) errno(err error) unix.Errno { return v.server.errno(err) }

// object is a file or directory of a volume.
type object struct {
	nodefs.Inode
	v *volume
	o *vfat.Object
}

var _ interface {
	nodefs.NodeLookuper
	nodefs.NodeGetattrer
	nodefs.NodeSetattrer
	nodefs.NodeReaddirer
	nodefs.NodeOpener
	nodefs.NodeReader
	nodefs.NodeWriter
	nodefs.NodeReleaser
	nodefs.NodeFsyncer
	nodefs.NodeCreater
	nodefs.NodeMkdirer
	nodefs.NodeMknoder
	nodefs.NodeSymlinker
	nodefs.NodeLinker
	nodefs.NodeUnlinker
	nodefs.NodeRmdirer
	nodefs.NodeRenamer
	nodefs.NodeStatfser
} = (*object)(nil)

func now() int64 { return time.Now().Unix() }

// mode is the type and permissions of an object.
func mode(o *vfat.Object) uint32 {
	switch {
	case o.IsDir():
		return unix.S_IFDIR | 0o755
	case o.ReadOnly():
		return unix.S_IFREG | 0o555
	}
	return unix.S_IFREG | 0o755
}

// fill describes an object.
func (v *volume) fill(o *vfat.Object, out *gofuse.Attr) {
	cluster, _, _ := v.editor.Space()
	at := time.Unix(o.Modified(), 0)
	out.Mode, out.Size, out.Nlink = mode(o), uint64(o.Size()), 1
	changed := v.changes.of(o, at)
	out.SetTimes(&at, &at, &changed)
	out.Blksize = uint32(cluster)
	out.Blocks = (out.Size + uint64(cluster) - 1) / uint64(cluster) * uint64(cluster) / 512
}

// node is the inode of an object.
func (n *object) node(ctx context.Context, o *vfat.Object, out *gofuse.EntryOut) *nodefs.Inode {
	n.v.fill(o, &out.Attr)
	// The root has number 1, and objects count from 1.
	id := nodefs.StableAttr{Mode: out.Mode & unix.S_IFMT, Ino: o.ID + 1}
	return n.NewInode(ctx, &object{v: n.v, o: o}, id)
}

// Lookup implements nodefs.NodeLookuper.
func (n *object) Lookup(ctx context.Context, name string, out *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	o, err := n.v.editor.Lookup(n.o, name)
	if err != nil {
		return nil, n.v.errno(err)
	}
	return n.node(ctx, o, out), 0
}

// Getattr implements nodefs.NodeGetattrer.
func (n *object) Getattr(_ context.Context, _ nodefs.FileHandle, out *gofuse.AttrOut) unix.Errno {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	n.v.fill(n.o, &out.Attr)
	return 0
}

// Setattr implements nodefs.NodeSetattrer.
func (n *object) Setattr(_ context.Context, _ nodefs.FileHandle, in *gofuse.SetAttrIn, out *gofuse.AttrOut) unix.Errno {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	uid, hasUID := in.GetUID()
	gid, hasGID := in.GetGID()
	bits, hasMode := in.GetMode()
	if hasUID && uid != 0 || hasGID && gid != 0 || hasMode && bits&0o7000 != 0 {
		return unix.EPERM
	}
	n.v.changes.mark(n.o)
	if size, ok := in.GetSize(); ok {
		if size > 1<<62 {
			return unix.EFBIG
		}
		if err := n.v.editor.Truncate(n.o, int64(size), now()); err != nil {
			return n.v.errno(err)
		}
	}
	if at, ok := in.GetMTime(); ok {
		if err := n.v.editor.SetModified(n.o, at.Unix()); err != nil {
			return n.v.errno(err)
		}
	}
	if hasMode && !n.o.IsDir() && bits&0o555 == 0o555 {
		if err := n.v.editor.SetReadOnly(n.o, bits&0o200 == 0); err != nil {
			return n.v.errno(err)
		}
	}
	n.v.fill(n.o, &out.Attr)
	return 0
}

// Readdir implements nodefs.NodeReaddirer.
func (n *object) Readdir(context.Context) (nodefs.DirStream, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	list, err := n.v.editor.Children(n.o)
	if err != nil {
		return nil, n.v.errno(err)
	}
	entries := dots()
	for _, o := range list {
		entries = append(entries, gofuse.DirEntry{Name: o.Name, Mode: mode(o) & unix.S_IFMT, Ino: o.ID + 1})
	}
	return nodefs.NewListDirStream(entries), 0
}

// Open implements nodefs.NodeOpener.
func (n *object) Open(_ context.Context, flags uint32) (nodefs.FileHandle, uint32, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	if flags&unix.O_TRUNC != 0 {
		n.v.changes.mark(n.o)
		if err := n.v.editor.Truncate(n.o, 0, now()); err != nil {
			return nil, 0, n.v.errno(err)
		}
	}
	n.v.editor.Use(n.o)
	return opened{}, gofuse.FOPEN_KEEP_CACHE, 0
}

// opened is the handle of every open file: without one it would not be released.
type opened struct{}

// Release implements nodefs.NodeReleaser.
func (n *object) Release(context.Context, nodefs.FileHandle) unix.Errno {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	return n.v.errno(n.v.editor.Unuse(n.o))
}

// Read implements nodefs.NodeReader.
func (n *object) Read(_ context.Context, _ nodefs.FileHandle, dest []byte, off int64) (gofuse.ReadResult, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	k, err := n.v.editor.ReadAt(n.o, dest, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, n.v.errno(err)
	}
	return gofuse.ReadResultData(dest[:k]), 0
}

// Write implements nodefs.NodeWriter.
func (n *object) Write(_ context.Context, _ nodefs.FileHandle, data []byte, off int64) (uint32, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	n.v.changes.mark(n.o)
	if err := n.v.editor.WriteAt(n.o, data, off, now()); err != nil {
		return 0, n.v.errno(err)
	}
	return uint32(len(data)), 0
}

// Fsync implements nodefs.NodeFsyncer: the image is complete when its container has
// ended.
func (n *object) Fsync(context.Context, nodefs.FileHandle, uint32) unix.Errno { return 0 }

func (n *object) create(ctx context.Context, name string, dir bool, out *gofuse.EntryOut) (*vfat.Object, *nodefs.Inode, unix.Errno) {
	o, err := n.v.editor.Create(n.o, name, dir, now())
	if err != nil {
		return nil, nil, n.v.errno(err)
	}
	n.v.changes.mark(o)
	n.v.changes.mark(n.o)
	return o, n.node(ctx, o, out), 0
}

// Create implements nodefs.NodeCreater.
func (n *object) Create(ctx context.Context, name string, flags uint32, _ uint32, out *gofuse.EntryOut) (*nodefs.Inode, nodefs.FileHandle, uint32, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	o, inode, e := n.create(ctx, name, false, out)
	if e != 0 {
		return nil, nil, 0, e
	}
	n.v.editor.Use(o)
	return inode, opened{}, gofuse.FOPEN_KEEP_CACHE, 0
}

// Mkdir implements nodefs.NodeMkdirer.
func (n *object) Mkdir(ctx context.Context, name string, _ uint32, out *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	_, inode, e := n.create(ctx, name, true, out)
	return inode, e
}

// Mknod implements nodefs.NodeMknoder: there are regular files alone.
func (n *object) Mknod(ctx context.Context, name string, mode, _ uint32, out *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	if t := mode & unix.S_IFMT; t != 0 && t != unix.S_IFREG {
		return nil, unix.EPERM
	}
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	_, inode, e := n.create(ctx, name, false, out)
	return inode, e
}

// Symlink implements nodefs.NodeSymlinker.
func (n *object) Symlink(context.Context, string, string, *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	return nil, unix.EPERM
}

// Link implements nodefs.NodeLinker.
func (n *object) Link(context.Context, nodefs.InodeEmbedder, string, *gofuse.EntryOut) (*nodefs.Inode, unix.Errno) {
	return nil, unix.EPERM
}

// Unlink implements nodefs.NodeUnlinker.
func (n *object) Unlink(_ context.Context, name string) unix.Errno { return n.remove(name, false) }

// Rmdir implements nodefs.NodeRmdirer.
func (n *object) Rmdir(_ context.Context, name string) unix.Errno { return n.remove(name, true) }

func (n *object) remove(name string, dir bool) unix.Errno {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	o, err := n.v.editor.Lookup(n.o, name)
	switch {
	case err != nil:
		return n.v.errno(err)
	case dir && !o.IsDir():
		return unix.ENOTDIR
	case !dir && o.IsDir():
		return unix.EISDIR
	}
	n.v.changes.mark(n.o)
	return n.v.errno(n.v.editor.Remove(o, now()))
}

// Rename implements nodefs.NodeRenamer.
func (n *object) Rename(_ context.Context, name string, parent nodefs.InodeEmbedder, newName string, flags uint32) unix.Errno {
	to, ok := parent.(*object)
	if !ok || flags&^unix.RENAME_NOREPLACE != 0 {
		return unix.EINVAL
	}
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	o, err := n.v.editor.Lookup(n.o, name)
	if err != nil {
		return n.v.errno(err)
	}
	for _, changed := range []*vfat.Object{o, n.o, to.o} {
		n.v.changes.mark(changed)
	}
	return n.v.errno(n.v.editor.Rename(o, to.o, newName, flags&unix.RENAME_NOREPLACE != 0, now()))
}

// Statfs implements nodefs.NodeStatfser.
func (n *object) Statfs(_ context.Context, out *gofuse.StatfsOut) unix.Errno {
	n.v.mu.Lock()
	defer n.v.mu.Unlock()
	size, total, free := n.v.editor.Space()
	out.Bsize, out.Frsize, out.NameLen = uint32(size), uint32(size), 255
	out.Blocks, out.Bfree, out.Bavail = total, free, free
	return 0
}
