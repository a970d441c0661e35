package tree

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// File is one entry of a file system to be made. The bytes of a regular file
// come from Data, from the host's file Source, or from Open with Size; the
// first that is set counts, and none of them is an empty file.
type File struct {
	// Path is where the file lies, with slashes; a leading one is ignored.
	// Directories above it that are not listed get mode 0755 and owner 0:0.
	Path string
	// Mode holds type and permissions, setuid, setgid and sticky included. With
	// no permission bits at all a directory or link gets 0755, a file 0644.
	Mode fs.FileMode
	Data []byte
	// Source is read when the file system is written; its length must not change
	// between. Its mode and owner do not count.
	Source string
	// Open gives exactly Size bytes and may be called more than once.
	Open func() (io.ReadCloser, error)
	Size int64
	// Time is the modification time; zero is the file system's own time.
	Time     time.Time
	UID, GID int
	// Link is the target of a symbolic link (Mode has fs.ModeSymlink), or the
	// Path of an earlier regular file of which this is another name.
	Link string
	// Major and Minor number a device (Mode has fs.ModeDevice).
	Major, Minor uint32
	// Xattrs are extended attributes by full name. Only ext4 stores them.
	Xattrs map[string]string
}

// FromFiles is the listed files. Times that are not set become implied.
func FromFiles(files []File, implied time.Time) Content {
	return fileContent{files: files, implied: implied}
}

type fileContent struct {
	files   []File
	implied time.Time
}

func (c fileContent) Close() error { return nil }

func (c fileContent) Load(ctx context.Context, _ string) (*Tree, error) {
	t := newTree(c.implied)
	for i := range c.files {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := t.addFile(&c.files[i]); err != nil {
			return nil, err
		}
	}
	t.seal()
	return t, nil
}

// addFile refuses two entries for one path, unless both are directories.
func (t *Tree) addFile(f *File) error {
	p, err := cleanPath(f.Path)
	if err != nil {
		return err
	}
	n, err := f.inode(t.implied)
	if err != nil {
		return fmt.Errorf("%q: %w", f.Path, err)
	}
	if old := t.lookup(p); old != nil && !(old.IsDir() && n.IsDir()) {
		return fmt.Errorf("%q: there are two entries for this path", f.Path)
	}
	if f.Link != "" && n.IsRegular() {
		target, err := cleanPath(f.Link)
		if err != nil {
			return err
		}
		return t.link(p, target)
	}
	return t.add(p, n)
}

func (f *File) inode(implied time.Time) (*Inode, error) {
	mode, err := UnixMode(f.Mode)
	if err != nil {
		return nil, err
	}
	if err := checkOwner(f.UID, f.GID); err != nil {
		return nil, err
	}
	when := f.Time
	if when.IsZero() {
		when = time.Unix(FixedTime(implied), 0)
	}
	n := &Inode{Mode: mode, UID: uint32(f.UID), GID: uint32(f.GID), Major: f.Major, Minor: f.Minor,
		Sec: when.Unix(), Nsec: uint32(when.Nanosecond()), Origin: f.Path}
	for name, value := range f.Xattrs {
		n.Xattrs = append(n.Xattrs, Xattr{name, []byte(value)})
	}
	sortXattrs(n.Xattrs)
	switch {
	case n.IsLink():
		n.Target, n.Size = f.Link, int64(len(f.Link))
	case n.IsRegular() && f.Link == "":
		return n, f.attach(n)
	}
	return n, nil
}

// attach sets the source of a regular file's bytes and its size.
func (f *File) attach(n *Inode) error {
	switch {
	case f.Data != nil:
		n.Size, n.Open = int64(len(f.Data)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(f.Data)), nil }
	case f.Source != "":
		st, err := os.Stat(f.Source)
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", f.Source)
		}
		n.Size, n.Open = st.Size(), func() (io.ReadCloser, error) { return os.Open(f.Source) }
	case f.Open != nil:
		if f.Size < 0 {
			return fmt.Errorf("size %d is negative", f.Size)
		}
		n.Size, n.Open = f.Size, f.Open
	}
	return nil
}
