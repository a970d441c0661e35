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
// the image gets, whatever network there was. One that the command has replaced or
// removed stays as the command left it. Images of runs that were killed are not
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

	put unix.Stat_t // our file
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
	if err := p.write(); err != nil {
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
			return err // of the first change
		}
		if rerr := p.restore(); rerr != nil {
			return fmt.Errorf("put back what the image had: %v, after %v", rerr, err)
		}
		return err
	}
	r.undo = append(r.undo, p.settle)
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

// settle leaves what the command left, without what is ours.
func (p *placed) settle() error {
	var now unix.Stat_t
	err := unix.Lstat(p.where, &now)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil || now.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	data, err := readPlain(p.where)
	if err != nil {
		return err
	}
	if now.Ino == p.put.Ino && now.Dev == p.put.Dev && now.Mode == p.put.Mode &&
		now.Uid == p.put.Uid && now.Gid == p.put.Gid && bytes.Equal(data, p.now) {
		return p.restore()
	}
	at := bytes.Index(data, p.lines)
	if at < 0 {
		return nil
	}
	rest := append(bytes.Clone(data[:at]), data[at+len(p.lines):]...)
	if p.alone && p.is(unix.S_IFREG) {
		rest = append(bytes.Clone(p.content), rest...)
	}
	if len(rest) == 0 && !p.is(unix.S_IFREG) {
		return p.restore()
	}
	return p.trim(rest, now)
}

// trim writes what is left without our lines, as if the command had written it.
func (p *placed) trim(rest []byte, now unix.Stat_t) error {
	modified := now.Mtim
	if bytes.Equal(rest, p.content) || bytes.Equal(rest, ended(p.content)) {
		rest = p.content
		if modified == p.put.Mtim {
			modified = p.had.Mtim
		}
	}
	flags, fixed := takeFlags(p.where)
	err := overwrite(p.where, rest, p.mode)
	if err == nil {
		err = setTimes(p.where, now.Atim, modified)
	}
	if fixed {
		err = errors.Join(err, giveFlags(p.where, flags))
	}
	return err
}

// restore puts back what the image had.
func (p *placed) restore() error {
	if p.is(unix.S_IFREG) {
		if err := overwrite(p.where, p.content, p.mode); err != nil {
			return err
		}
		return setTimes(p.where, p.had.Atim, p.had.Mtim)
	}
	if err := os.Remove(p.where); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if !p.is(unix.S_IFLNK) {
		return nil
	}
	if err := os.Symlink(p.link, p.where); err != nil {
		return err
	}
	if err := os.Lchown(p.where, int(p.had.Uid), int(p.had.Gid)); err != nil {
		return err
	}
	return setTimes(p.where, p.had.Atim, p.had.Mtim)
}

func setTimes(where string, accessed, modified unix.Timespec) error {
	err := unix.UtimesNanoAt(unix.AT_FDCWD, where, []unix.Timespec{accessed, modified}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "set times", Path: where, Err: err}
	}
	return nil
}

// takeFlags takes the attributes away and tells which the file had, and whether
// they are to be given back.
func takeFlags(where string) (flags uint32, fixed bool) {
	f, err := os.Open(where)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	flags, err = unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&lockedFlags == 0 {
		return 0, false
	}
	return flags, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags&^lockedFlags)) == nil
}

func giveFlags(where string, flags uint32) error {
	f, err := os.Open(where)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("set attributes", unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags)))
}
