package helper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A file of the container's own is a real file of the image while the command
// runs. Afterwards it is compared with what was put there. One that is as it was is
// taken away, and what the image had comes back: a regular file keeps its inode all
// the time, a symbolic link is made again. From one that the command has changed
// only our own lines are taken away, so that a line which was appended is all that
// the image gets, whatever network there was. One that the command has removed stays
// removed. One that it has renamed, alone or with a directory above it, is found by
// the descriptor that is held of it, and one that stands at its place instead, such as
// an edited copy, is searched for our lines. Images of runs that were killed are not
// used, so that nothing needs to survive a crash.

// ownFile is a file to put into a container.
type ownFile struct {
	target string
	mode   os.FileMode
	alone  bool                // without the image's own content before it
	add    func([]byte) []byte // our lines, given the image's content; nil for no file
}

// maxOwnFile bounds what is kept of an image's own file, in bytes.
const maxOwnFile = 8 << 20

// content is what the file shall have, nil to leave it as it is.
func (f *ownFile) content(image []byte) []byte {
	lines := f.add(image)
	if lines == nil || bytes.Equal(lines, image) {
		return nil
	}
	if f.alone {
		return lines
	}
	return append(ended(image), lines...)
}

// placed is a file of our own that is in the image.
type placed struct {
	ownFile
	where string // in the helper's view
	lines []byte // of ours
	now   []byte // what it has, with the image's own content

	had     unix.Stat_t // what the image had there; no mode for nothing
	link    string      // where it led, if it was a symbolic link
	content []byte      // what it held, if it was a regular file

	put  unix.Stat_t // our file
	file *os.File    // the same, opened for its place alone
}

// placeFile puts a file in place and remembers how to settle it.
func (r *rootfs) placeFile(f ownFile) error {
	parent, err := r.place(path.Dir(f.target), true)
	if err != nil {
		return err
	}
	defer parent.Close()
	dir, err := os.Readlink(fdPath(parent))
	if err != nil {
		return err
	}
	p := &placed{ownFile: f, where: filepath.Join(dir, path.Base(f.target))}
	if err := p.look(); err != nil {
		return err
	}
	p.lines, p.now = f.add(p.content), f.content(p.content)
	if p.now == nil || !p.replaceable() {
		return nil
	}
	if !p.is(unix.S_IFREG) {
		if err := r.keepTimes(dir); err != nil {
			return err
		}
	}
	err = p.write()
	if err == nil {
		p.file, err = os.OpenFile(p.where, unix.O_PATH|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
			return err // of the first change
		}
		if rerr := p.restore(p.where); rerr != nil {
			return fmt.Errorf("put back what the image had: %v, after %v", rerr, err)
		}
		return err
	}
	r.undo = append(r.undo, func() error { return r.settle(p) })
	return nil
}

// look notes what the image has.
func (p *placed) look() error {
	err := unix.Lstat(p.where, &p.had)
	switch {
	case errors.Is(err, unix.ENOENT):
		p.had = unix.Stat_t{}
		return nil
	case err != nil:
		return &os.PathError{Op: "lstat", Path: p.target, Err: err}
	case p.is(unix.S_IFLNK):
		p.link, err = os.Readlink(p.where)
	case p.is(unix.S_IFREG) && p.replaceable():
		p.content, err = readPlain(p.where)
	}
	return err
}

// is tells whether the image had a file of that type.
func (p *placed) is(kind uint32) bool { return p.had.Mode&unix.S_IFMT == kind }

// replaceable leaves out what is no file, or too large to be one that programs read
// for what our file tells them.
func (p *placed) replaceable() bool {
	return p.had.Mode == 0 || p.is(unix.S_IFLNK) || p.is(unix.S_IFREG) && p.had.Size <= maxOwnFile
}

// readPlain reads a regular file; a link is not followed, a FIFO not waited for.
func readPlain(where string) ([]byte, error) {
	f, err := os.OpenFile(where, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxOwnFile))
}

// write puts our file there. A regular file is written over, block by block.
func (p *placed) write() error {
	if p.is(unix.S_IFLNK) {
		if err := os.Remove(p.where); err != nil {
			return err
		}
	}
	if err := overwrite(p.where, p.now, p.mode); err != nil {
		return err
	}
	return unix.Lstat(p.where, &p.put)
}

// overwrite gives a file new content without freeing the blocks that it keeps; a
// file that is missing gets the mode.
func overwrite(where string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(where, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = os.OpenFile(where, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err == nil {
			err = f.Chmod(mode)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Truncate(int64(len(content)))
	}
	return errors.Join(err, f.Close())
}

// settle leaves what the command left, without what is ours: where the file was put,
// and where the command has moved it to.
func (r *rootfs) settle(p *placed) error {
	moved, err := os.Readlink(fdPath(p.file))
	p.file.Close()
	if err != nil {
		return err
	}
	errs := []error{p.settleAt(moved, true, &r.account)}
	if where := r.whereIs(p.target); where != moved {
		errs = append(errs, p.settleAt(where, false, &r.account))
	}
	if _, err := os.Lstat(p.where); err == nil && p.had.Mode == 0 {
		r.changed(filepath.Dir(p.where)) // the command has made a file
	}
	return errors.Join(errs...)
}

// whereIs is the path, in the helper's view, of the last name of a path of the
// container: where links of the container lead, and never out of it. It is empty if
// there is no such directory any more.
func (r *rootfs) whereIs(target string) string {
	parent, err := r.open(path.Dir(target), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return ""
	}
	defer parent.Close()
	dir, err := os.Readlink(fdPath(parent))
	if err != nil {
		return ""
	}
	return filepath.Join(dir, path.Base(target))
}

// settleAt settles the file at a path, ours or else one that the command has put
// there.
func (p *placed) settleAt(where string, ours bool, a *account) error {
	var now unix.Stat_t
	err := unix.Lstat(where, &now)
	if where == "" || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	same := now.Ino == p.put.Ino && now.Dev == p.put.Dev
	if err != nil || now.Mode&unix.S_IFMT != unix.S_IFREG || same != ours {
		return err
	}
	data, err := readPlain(where)
	if err != nil {
		return err
	}
	if ours && now.Mode == p.put.Mode && now.Uid == p.put.Uid && now.Gid == p.put.Gid && bytes.Equal(data, p.now) {
		err := unlocked(where, func() error { return p.restore(where) })
		if err == nil && now.Ctim == p.put.Ctim && unix.Lstat(where, &now) == nil {
			a.excuse(&now)
		}
		return err
	}
	rest, found := p.without(data)
	if !found {
		return nil
	}
	return unlocked(where, func() error {
		if len(rest) == 0 && !p.is(unix.S_IFREG) {
			return p.restore(where)
		}
		return p.trim(where, rest, now)
	})
}

// without is what a file holds beside our lines, and whether it has any of them. When
// they no longer follow each other each is looked for. Where the command has taken our
// mark away what is left is its own: it may have written the same.
func (p *placed) without(data []byte) (rest []byte, found bool) {
	if at := bytes.Index(data, p.lines); at >= 0 {
		rest = append(bytes.Clone(data[:at]), data[at+len(p.lines):]...)
	} else if bytes.Contains(data, []byte(ownMark)) {
		rest = withoutLines(data, p.lines)
	} else {
		return data, false
	}
	if p.alone && p.is(unix.S_IFREG) {
		rest = append(bytes.Clone(p.content), rest...)
	}
	return rest, true
}

// withoutLines leaves out each line of ours once, but for a #! line, which what
// the command has changed of a script still needs.
func withoutLines(data, ours []byte) (rest []byte) {
	count := make(map[string]int)
	for line := range bytes.Lines(ours) {
		if !bytes.HasPrefix(line, []byte("#!")) {
			count[string(line)]++
		}
	}
	for line := range bytes.Lines(data) {
		if count[string(line)]--; count[string(line)] < 0 {
			rest = append(rest, line...)
		}
	}
	return rest
}

// trim writes what is left without our lines, as if the command had written it.
func (p *placed) trim(where string, rest []byte, now unix.Stat_t) error {
	modified := now.Mtim
	if bytes.Equal(rest, p.content) || bytes.Equal(rest, ended(p.content)) {
		rest = p.content
		if modified == p.put.Mtim {
			modified = p.had.Mtim
		}
	}
	if err := overwrite(where, rest, p.mode); err != nil {
		return err
	}
	return setTimes(where, now.Atim, modified)
}

// restore puts back what the image had, at the path where our file is.
func (p *placed) restore(where string) error {
	if p.is(unix.S_IFREG) {
		if err := overwrite(where, p.content, p.mode); err != nil {
			return err
		}
		return setTimes(where, p.had.Atim, p.had.Mtim)
	}
	if err := os.Remove(where); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !p.is(unix.S_IFLNK) {
		return nil
	}
	if err := os.Symlink(p.link, where); err != nil {
		return err
	}
	if err := os.Lchown(where, int(p.had.Uid), int(p.had.Gid)); err != nil {
		return err
	}
	return setTimes(where, p.had.Atim, p.had.Mtim)
}

func setTimes(where string, accessed, modified unix.Timespec) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, where, []unix.Timespec{accessed, modified}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "set times", Path: where, Err: err}
	}
	return nil
}
