package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/raw"
	"b9.build/b9/engine/disk/vmdk"
	"b9.build/b9/engine/internal/newfile"
)

// Update replaces the raw image at path by what change makes of a copy of it, whose
// path change is given. The copy has no name where the file system can do that, so
// that nothing is left of a process that is killed. It keeps owner, permissions and
// extended attributes, and takes the old image's place when it is on the disk: whatever
// happens, path is the old image or the new one. A symbolic link stays one. What is
// no regular file, such as a device, is changed in place.
//
// Errors name the image and not the copy.
func Update(ctx context.Context, path string, progress func(done, total int64), change func(ctx context.Context, work string) error) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.Join(change(ctx, path), syncFile(path))
	}
	src, err := Open(path, "raw", OpenOptions{})
	if err != nil {
		return err
	}
	defer src.Close()
	return create(path, image.WriteOptions{Sync: true}, func(w *os.File) error {
		if err := (raw.Format{}).Write(ctx, w, src, image.WriteOptions{Progress: progress}); err != nil {
			return err
		}
		work := procPath(w)
		if err := change(ctx, work); err != nil {
			return &movedError{err, strings.ReplaceAll(err.Error(), work, path)}
		}
		return likeBefore(w, path, info)
	})
}

// movedError is an error about the copy as one about the image; errors.Is sees the
// same in it.
type movedError struct {
	error
	text string
}

func (m *movedError) Error() string { return m.text }
func (m *movedError) Unwrap() error { return m.error }

// syncFile brings the content of a file to the disk.
func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// ConvertFlat writes src as a vmdk of the subformat monolithicFlat: its bytes to data,
// and a descriptor to dst, which names them o.Name, by default as data is called. Each
// appears when it is complete, the descriptor last.
func ConvertFlat(ctx context.Context, src Image, dst, data string, o WriteOptions) error {
	whole := Section(src, 0, image.RoundUp(src.Size(), 512))
	if err := Convert(ctx, whole, data, "raw", WriteOptions{Progress: o.Progress, Sync: o.Sync, Mode: o.Mode}); err != nil {
		return err
	}
	o.Subformat, o.Progress = vmdk.Flat, nil
	if o.Name == "" {
		o.Name = filepath.Base(data)
	}
	return Convert(ctx, src, dst, "vmdk", o)
}

// procPath is a path of the open file, which other processes of this user have, too.
func procPath(f *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()) }

// likeBefore gives f what the file at path has besides its content. The owner comes
// first, since a change of it takes bits of the mode away. Who may not give a file
// away keeps it, as cp -p does.
func likeBefore(f *os.File, path string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := f.Chmod(info.Mode()); err != nil {
		return err
	}
	names := make([]byte, 64<<10)
	n, err := unix.Listxattr(path, names)
	if err != nil {
		return nil // the file system has none
	}
	value := make([]byte, 64<<10)
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if n, err := unix.Getxattr(path, name, value); name != "" && err == nil {
			_ = unix.Fsetxattr(int(f.Fd()), name, value[:n], 0) // trusted.* and the like are for those who may
		}
	}
	return nil
}

// Scratch opens a new file for reading and writing that has no name, in the
// directory dir. Its content is gone when it is closed.
func Scratch(dir string) (f *os.File, path string, err error) {
	if f, err = newfile.Scratch(dir); err != nil {
		return nil, "", err
	}
	return f, procPath(f), nil
}
