package tree

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// modeBits pairs a type, or a flag, of struct stat's st_mode with Go's.
type modeBits struct {
	stat uint32
	mode fs.FileMode
}

func fileTypes() []modeBits {
	return []modeBits{
		{unix.S_IFREG, 0}, {unix.S_IFDIR, fs.ModeDir}, {unix.S_IFLNK, fs.ModeSymlink}, {unix.S_IFBLK, fs.ModeDevice},
		{unix.S_IFCHR, fs.ModeDevice | fs.ModeCharDevice}, {unix.S_IFIFO, fs.ModeNamedPipe}, {unix.S_IFSOCK, fs.ModeSocket},
	}
}

func modeFlags() []modeBits {
	return []modeBits{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}}
}

// UnixMode translates to the numbers of struct stat. With no permission bits at
// all a directory gets 0755, a link 0777, anything else 0644.
func UnixMode(m fs.FileMode) (uint32, error) {
	mode := uint32(m.Perm())
	for _, t := range fileTypes() {
		if m.Type() == t.mode {
			mode |= t.stat
		}
	}
	switch {
	case mode&unix.S_IFMT == 0:
		return 0, errors.New("unknown file type " + m.Type().String())
	case m.Perm() != 0:
	case m.IsDir():
		mode |= 0o755
	case m.Type() == fs.ModeSymlink:
		mode |= 0o777
	default:
		mode |= 0o644
	}
	for _, f := range modeFlags() {
		if m&f.mode != 0 {
			mode |= f.stat
		}
	}
	return mode, nil
}

// FileMode translates from the numbers of struct stat.
func FileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode&0o777) | fs.ModeIrregular
	for _, t := range fileTypes() {
		if mode&unix.S_IFMT == t.stat {
			m = m&^fs.ModeIrregular | t.mode
		}
	}
	for _, f := range modeFlags() {
		if mode&f.stat != 0 {
			m |= f.mode
		}
	}
	return m
}
