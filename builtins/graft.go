package builtins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/tree"
)

// treeMaker puts one tree together. First it makes names and contents, all of
// them with the owner and the group of this process, so that nothing in a
// directory depends on what that is to have in the end; then seal gives
// everything its owner, attributes, permissions and time.
type treeMaker struct {
	t    *makeTree
	job  *engine.Job
	dir  string
	root *os.Root
	kept map[string]*kept // by path, of what came from the result of a step
}

// kept is what a file of a step's result has. Names of one file share it, and
// so get what the rules say of any of them.
type kept struct {
	uid, gid int
	mode     uint32 // as in struct stat
	xattrs   []tree.Xattr
	result   bool // of a step; else the build file said what the mode is
}

// graft puts the content of a directory below the entry's path: a private copy,
// out of which the files are moved. What is in the result of a step, and not in
// a source directory, keeps owner, permissions, extended attributes and hard links.
func (m *treeMaker) graft(ctx context.Context, e *treeEntry, a *engine.Artifact) error {
	dir := filepath.Join(m.job.Dir(), "graft")
	if err := a.Fork(ctx, dir); err != nil {
		return err
	}
	content := tree.FromDir(dir)
	loaded, err := content.Load(ctx, "")
	if err != nil {
		return err
	}
	g := grafter{m: m, stored: a.Stored(), names: map[*tree.Inode]string{}}
	from, file := loaded.Root, dir
	if e.Kept {
		only := loaded.Root.Entries[0]
		from, file = only.Inode, filepath.Join(dir, only.Name)
	}
	return errors.Join(g.place(ctx, from, file, e.Path), content.Close(), os.RemoveAll(dir))
}

// grafter moves the content of one directory.
type grafter struct {
	m      *treeMaker
	stored bool
	names  map[*tree.Inode]string // the first, of files
}

// place makes n, which is at file, at the path dst of the tree.
func (g *grafter) place(ctx context.Context, n *tree.Inode, file, dst string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if g.m.t.follows(dst) && n.IsLink() {
		return nil // an entry of its own has the content
	}
	if err := g.one(n, file, dst); err != nil {
		return err
	}
	if g.stored {
		g.keep(n, dst)
	}
	for _, e := range n.Entries {
		if err := g.place(ctx, e.Inode, filepath.Join(file, e.Name), path.Join(dst, e.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (g *grafter) one(n *tree.Inode, file, dst string) error {
	root := g.m.root
	first, again := g.names[n]
	switch {
	case n.IsDir():
		return makeDirs(root, dst)
	case again:
		return root.Link(first, dst)
	case n.IsLink():
		return root.Symlink(n.Target, dst)
	case n.IsRegular():
		g.names[n] = dst
		return moveInto(root, file, dst, permissions(n.Mode))
	}
	return fmt.Errorf("%s is a %s: a tree holds files, directories and symbolic links", file, tree.FileMode(n.Mode).Type())
}

// moveInto moves a host file to a new name beneath root, on the same file system.
func moveInto(root *os.Root, src, dst string, mode fs.FileMode) error {
	dir, err := root.Open(path.Dir(dst))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Renameat2(unix.AT_FDCWD, src, int(dir.Fd()), path.Base(dst), unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS { // a file system without that flag
		return copyInto(root, src, dst, mode)
	}
	if err != nil {
		return &fs.PathError{Op: "rename", Path: dst, Err: err}
	}
	return nil
}

func (g *grafter) keep(n *tree.Inode, dst string) {
	if first, ok := g.names[n]; ok && first != dst {
		g.m.kept[dst] = g.m.kept[first]
		return
	}
	g.m.kept[dst] = &kept{uid: int(n.UID), gid: int(n.GID), mode: n.Mode, xattrs: n.Xattrs, result: true}
}

// seal applies the rules, and gives everything its owner, which is root where
// nothing else was said, and the build's time, so that the same content gives
// the same tree.
func (m *treeMaker) seal(ctx context.Context) error {
	used := make([]bool, len(m.t.Rules))
	err := walk(ctx, m.dir, func(file, rel string, _ fs.DirEntry) error {
		k := m.kept[rel]
		if k == nil {
			var st unix.Stat_t
			if err := unix.Lstat(file, &st); err != nil {
				return &fs.PathError{Op: "lstat", Path: file, Err: err}
			}
			k = &kept{mode: st.Mode}
		}
		m.t.change(k, rel, used)
		return k.apply(file, m.job.Epoch())
	})
	for i, ok := range used {
		if err == nil && !ok {
			return fmt.Errorf("modes or owners: nothing in the tree matches %q", m.t.Rules[i].Pattern)
		}
	}
	return err
}

// change does what the rules say of the path: owners first, since who gets a
// file must not get the rights of its owner before.
func (t *makeTree) change(k *kept, rel string, used []bool) {
	matches := func(i int) bool {
		ok, _ := path.Match(t.Rules[i].Pattern, rel)
		used[i] = used[i] || ok
		return ok
	}
	uid, gid := k.uid, k.gid
	for i, r := range t.Rules {
		if r.SetOwner && matches(i) {
			uid, gid = r.UID, r.GID
		}
	}
	if uid != k.uid || gid != k.gid {
		k.give(uid, gid)
	}
	for i, r := range t.Rules {
		if r.SetMode && matches(i) {
			k.mode = k.mode&unix.S_IFMT | r.Mode
		}
	}
}

// give changes the owner. With the old one of a step's result goes what runs a
// program with other rights than those of its caller: set-id bits and capabilities.
func (k *kept) give(uid, gid int) {
	k.uid, k.gid = uid, gid
	if !k.result || k.mode&unix.S_IFMT == unix.S_IFDIR {
		return
	}
	k.mode &^= unix.S_ISUID | unix.S_ISGID
	var rest []tree.Xattr
	for _, x := range k.xattrs {
		if x.Name != "security.capability" {
			rest = append(rest, x)
		}
	}
	k.xattrs = rest
}

// apply gives the file what k says, in the only order in which nothing undoes
// what was done before.
func (k *kept) apply(file string, at time.Time) error {
	if err := os.Lchown(file, k.uid, k.gid); err != nil {
		return err
	}
	for _, x := range k.xattrs {
		if err := unix.Lsetxattr(file, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("set attribute %s of %s: %w", x.Name, file, err)
		}
	}
	if k.mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(file, k.mode&0o7777); err != nil {
			return &fs.PathError{Op: "chmod", Path: file, Err: err}
		}
	}
	stamp := unix.NsecToTimespec(at.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
}
