package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// commits give copied files their names once the contents are on the disk, so that a
// name never leads to half a file, whenever the power fails. One flush of the file
// system serves many files: they wait without a name, as open files, and what has to
// come after them waits, too. A process that is killed leaves none of them.
type commits struct {
	dst   *os.Root
	top   *os.File // dst, to be flushed: older than everything written there
	due   []due    // in order
	files int      // of due
	bytes int64    // in files
	count int      // of temporary names
	swept map[string]bool
}

// due is something that waits: it is done, or dropped.
type due struct {
	do   func() error
	drop func() error // nil where there is nothing to drop
}

// Limits of what waits: open files, and bytes that are there beside what they replace.
const (
	mostFiles   = 200
	mostPending = 1 << 30
)

func newCommits(dst *os.Root) (*commits, error) {
	top, err := dst.Open(".")
	if err != nil {
		return nil, err
	}
	return &commits{dst: dst, top: top, swept: map[string]bool{}}, nil
}

// tempPrefix begins the names that files and directories have for a while; the number of the
// process follows.
const tempPrefix = ".b9-copy-"

// temp is a temporary name beside as.
func (c *commits) temp(as string) string {
	dir := path.Dir(as)
	c.sweep(dir)
	c.count++
	return path.Join(dir, fmt.Sprintf("%s%d-%d", tempPrefix, os.Getpid(), c.count))
}

// sweep removes what dead processes left in a directory, once.
func (c *commits) sweep(dir string) {
	if c.swept[dir] {
		return
	}
	c.swept[dir] = true
	entries, err := fs.ReadDir(c.dst.FS(), dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), tempPrefix)
		number, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(number)
		if !ok || err != nil || pid <= 0 {
			continue
		}
		if pid == os.Getpid() || errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = c.dst.RemoveAll(path.Join(dir, e.Name()))
		}
	}
}

// create opens a new file in the directory of as. Where the file system can, it has
// no name, and temp is empty.
func (c *commits) create(as string) (f *os.File, temp string, err error) {
	f, err = c.dst.OpenFile(path.Dir(as), unix.O_TMPFILE|os.O_RDWR, 0o600)
	if err == nil {
		return f, "", nil
	}
	temp = c.temp(as)
	f, err = c.dst.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	return f, temp, err
}

// abandon gives up a file that create made.
func (c *commits) abandon(f *os.File, temp string) error {
	err := f.Close()
	if temp != "" {
		err = errors.Join(err, c.dst.Remove(temp))
	}
	return err
}

// name gives a file that create made the name as, later, and closes it.
func (c *commits) name(f *os.File, temp, as string, size int64) error {
	c.files++
	c.bytes += size
	c.due = append(c.due, due{
		do:   func() error { return errors.Join(c.link(f, temp, as), f.Close()) },
		drop: func() error { return c.abandon(f, temp) },
	})
	if c.files >= mostFiles || c.bytes >= mostPending {
		return c.commit()
	}
	return nil
}

// then does something after what is due.
func (c *commits) then(do func() error) error {
	if len(c.due) == 0 {
		return do()
	}
	c.due = append(c.due, due{do: do})
	return nil
}

// link gives a file its name, in place of what has it.
func (c *commits) link(f *os.File, temp, as string) error {
	if temp != "" {
		return c.dst.Rename(temp, as)
	}
	dir, err := c.dst.Open(path.Dir(as))
	if err != nil {
		return err
	}
	defer dir.Close()
	to := func(name string) error {
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), int(dir.Fd()), path.Base(name), unix.AT_SYMLINK_FOLLOW)
	}
	if err := to(as); !errors.Is(err, fs.ErrExist) {
		return linkError(as, err)
	}
	temp = c.temp(as)
	if err := to(temp); err != nil {
		return linkError(as, err)
	}
	if err := c.dst.Rename(temp, as); err != nil {
		return errors.Join(err, c.dst.Remove(temp))
	}
	return nil
}

func linkError(as string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "link", Path: as, Err: err}
}

// commit flushes the contents and does what is due. After an error what is left is
// dropped.
func (c *commits) commit() (err error) {
	if c.files > 0 {
		err = c.flush()
	}
	list := c.due
	c.due, c.files, c.bytes = nil, 0, 0
	for _, one := range list {
		switch {
		case err == nil:
			err = one.do()
		case one.drop != nil:
			err = errors.Join(err, one.drop())
		}
	}
	return err
}

func (c *commits) flush() error {
	if err := unix.Syncfs(int(c.top.Fd())); err != nil {
		return fmt.Errorf("flush the file system of %s: %w", c.dst.Name(), err)
	}
	return nil
}

// close does what is due, and flushes the names unless there was an error before.
func (c *commits) close(well bool) error {
	err := c.commit()
	if err == nil && well {
		err = c.flush()
	}
	return errors.Join(err, c.top.Close())
}
