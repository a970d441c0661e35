// Package mkfs makes the file systems that b9 leaves to their own programs, which fill
// them from a directory: erofs by mkfs.erofs, f2fs by mkfs.f2fs and sload.f2fs. It
// hides these programs, the directory in which they find the content with its owners
// and times, and what it takes that they write the same bytes twice. What a program
// does not write, as devices and attributes in f2fs, is an error before it runs.
//
//	Make, Options            a new file system of a kind
//	Tools                    the programs of a kind
//	ProbeEROFS, ProbeF2FS    superblocks recognised
//	Grow                     a f2fs in a larger file
//
// The superblocks are those of the kernel's fs/erofs/erofs_fs.h and
// include/linux/f2fs_fs.h.
package mkfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// The kinds.
const (
	EROFS = "erofs"
	F2FS  = "f2fs"
)

// Options describe a new file system.
type Options struct {
	// Size in bytes of a f2fs; 0 fits the content and leaves Free bytes. An erofs
	// has the size of its content, a multiple of 4096.
	Size, Free int64
	// Label of a f2fs, at most 512 bytes.
	Label string
	// UUID is derived from the other options and the content where it is "".
	UUID string
	// Compress is how an erofs is compressed: lz4 or lz4hc; "" not at all.
	Compress string
	// Time of what the content does not bring a time for.
	Time time.Time
}

// LeastF2FS is the smallest size of a f2fs in bytes: below it the format's own areas
// and the segments that it keeps to clean others leave no room.
const LeastF2FS = 52 << 20

// leastFilled is that of one that sload.f2fs writes to, which needs segments to move.
const leastFilled = 80 << 20

// maxLabel is the length of a label of f2fs in bytes.
const maxLabel = 512

// Tools are the programs that Make calls for a kind. An old mkfs.erofs knows no -V, and
// tells what it does know, which is different in each version.
func Tools(kind string) []tool.Program {
	switch kind {
	case EROFS:
		return []tool.Program{{Name: "mkfs.erofs", VersionArgs: []string{"-V"}}}
	case F2FS:
		return []tool.Program{{Name: "mkfs.f2fs", VersionArgs: []string{"-V"}}, {Name: "sload.f2fs", VersionArgs: []string{"-V"}}}
	}
	return nil
}

// Make makes a file system of the kind in a new file at path and fills it with content
// (nil: a f2fs that is empty). The same options and content give the same bytes. An
// erofs holds everything; a f2fs files, directories, symbolic and hard
// links, owners, modes and times in whole seconds. Owners other than the caller's own,
// devices and attributes that only root may set need root. After an error path is what
// it was before.
func Make(ctx context.Context, path, kind string, o Options, content tree.Content) error {
	check := func() error { return o.check(kind, content) }
	return tree.Make(ctx, path, kind, content, check, func(t *tree.Tree) (func(*os.File) error, error) {
		m := &maker{ctx: ctx, o: o, tree: t, path: path}
		m.fixUUID(kind)
		if kind == EROFS {
			return m.erofs, nil
		}
		return m.f2fs, m.checkF2FS()
	})
}

func (o *Options) check(kind string, content tree.Content) error {
	switch {
	case kind != EROFS && kind != F2FS:
		return fmt.Errorf("it is no kind of this package (have %s, %s)", EROFS, F2FS)
	case kind == EROFS && content == nil:
		return errors.New("the content is missing")
	case len(o.Label) > maxLabel:
		return fmt.Errorf("label %q is %d bytes long, f2fs holds %d", o.Label, len(o.Label), maxLabel)
	case kind == F2FS && o.Size == 0 && content == nil:
		return errors.New("the size is missing")
	case kind == F2FS && o.Size != 0 && o.Size < LeastF2FS:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(LeastF2FS))
	case o.UUID != "":
		_, err := ident.Parse(o.UUID)
		return err
	}
	return nil
}

// maker makes one file system.
type maker struct {
	ctx  context.Context
	o    Options
	tree *tree.Tree // nil: no content
	path string     // of the image, beside which there is room for the directory
}

// fixUUID derives the UUID, so that two different file systems in a machine do not
// share one and two equal builds do.
func (m *maker) fixUUID(kind string) {
	if m.o.UUID != "" {
		return
	}
	h := ident.NewHash()
	h.Text("b9 " + kind)
	h.Numbers(uint64(m.o.Size), uint64(m.o.Free))
	h.Text(m.o.Label)
	h.Text(m.o.Compress)
	if m.tree != nil {
		sum := m.tree.Digest()
		h.Bytes(sum[:])
	}
	m.o.UUID = ident.New(h.Sum()[:16])
}

// staged calls do with a directory that holds the content.
func (m *maker) staged(do func(dir string) error) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(m.path), "content-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	root := filepath.Join(dir, "root")
	if err := stage(m.ctx, root, m.tree); err != nil {
		return fmt.Errorf("content of %s: %w", m.path, err)
	}
	return do(root)
}

// run runs one of the programs on the image. Of a full disk they tell little.
func (m *maker) run(f *os.File, env []string, name string, args ...string) error {
	_, err := hosttool.Command{Image: f, Env: env}.Run(m.ctx, name, args...)
	var free unix.Statfs_t
	if err != nil && m.ctx.Err() == nil && unix.Fstatfs(int(f.Fd()), &free) == nil && free.Bavail*uint64(free.Bsize) < 1<<20 {
		return errors.Join(err, &os.PathError{Op: "write", Path: m.path, Err: unix.ENOSPC})
	}
	return err
}
