package helper

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// A file system that only the kernel can write gets its times set through its mount,
// just before that ends, when nobody is left who could change it: the modification
// and access times, not older than Spec.ClampSince as the coarsest program keeps it, of
// what was changed since then. Change times, which nobody can set, and those of
// creation stay. ext2, ext3 and ext4 are left out, of which every
// time is set in the image afterwards.

// coarsest is the grain of the times that programs keep: archives and copies have whole
// seconds, zip and vfat every other one. Such a time can lie that much before the run.
const coarsest = 2 * time.Second

// clamp is what to set.
type clamp struct {
	since, to time.Time

	account *account
	same    bool // nothing in the mount was changed since the account began but by b9
}

// tidies reports whether what the spec asks for after the command is done after that
// end.
func tidies(s *container.Spec, out *outcome) bool {
	return !out.Stopped && out.Signal == 0 && (out.Code == 0 || s.EmptyAfterFailure)
}

// clampOf is what a spec asks for.
func clampOf(s *container.Spec) *clamp {
	if s.ClampSince.IsZero() {
		return nil
	}
	return &clamp{since: s.ClampSince, to: s.ClampTo}
}

// mount sets the times below the root of a mount, whose directory dir is. It reports
// whether the command is known to have changed nothing there.
func (c *clamp) mount(dir *os.File, a *account) (same bool, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	if st.Type == unix.EXT4_SUPER_MAGIC {
		return false, nil
	}
	top, err := openInside(int(dir.Fd()), ".", dir.Name())
	if top == nil {
		return false, err
	}
	c.account, c.same = a, st.Type == unix.XFS_SUPER_MAGIC || st.Type == unix.BTRFS_SUPER_MAGIC
	err = errors.Join(c.dir(top), c.entry(dir, "."))
	return c.same && err == nil && a.reliable(), err
}

// dir sets the times of what is in a directory, and closes it. It goes down from
// descriptor to descriptor, over no mount and no symbolic link.
func (c *clamp) dir(dir *os.File) error {
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	errs := []error{err}
	for _, name := range names {
		sub, err := openInside(int(dir.Fd()), name, dir.Name()+"/"+name)
		errs = append(errs, err)
		if sub != nil {
			errs = append(errs, c.dir(sub))
		}
		errs = append(errs, c.entry(dir, name))
	}
	return errors.Join(errs...)
}

// entry sets the times of one entry, whatever it is.
func (c *clamp) entry(dir *os.File, name string) error {
	var st unix.Stat_t
	at := int(dir.Fd())
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err}
	}
	c.same = c.same && !c.account.changed(&st)
	if time.Unix(st.Ctim.Unix()).Before(c.since) {
		return nil
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	odd := false
	for i, t := range times {
		if !time.Unix(t.Unix()).Before(c.since.Truncate(coarsest)) {
			times[i], odd = unix.NsecToTimespec(c.to.UnixNano()), true
		}
	}
	if !odd {
		return nil
	}
	err := unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.EPERM) {
		entry := unlock(filepath.Join(fdPath(dir), name))
		err = errors.Join(unix.UtimesNanoAt(at, name, times, unix.AT_SYMLINK_NOFOLLOW), entry.relock())
	}
	if err != nil {
		return &os.PathError{Op: "set the time of", Path: dir.Name() + "/" + name, Err: err}
	}
	return nil
}

// What a command changed in a file system tells the time of change of each file and
// directory, which the kernel sets and which a removal changes of the directory. b9
// itself changes some: it makes mount points and files of the container's own, and takes
// them away again. Of these it keeps account. An image with no other change holds what
// it held, whatever the mount has written, and gets its old bytes.

// account is what b9 knows of the changes in a container's images.
type account struct {
	since  unix.Timespec // by the clock that files are stamped with
	offset time.Duration // of that clock to the one that nobody sets
	own    map[file]bool // what only b9 has changed
	other  bool          // b9 has changed what it keeps no account of
}

// file is an inode of a file system that is mounted.
type file struct{ dev, ino uint64 }

// begin is called before anything is mounted that the command could write to.
func (a *account) begin() (err error) {
	a.own = make(map[file]bool)
	if a.offset, err = clockOffset(); err != nil {
		return err
	}
	return os.NewSyscallError("clock_gettime", unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &a.since))
}

// clockOffset is how far the clock is before the one that is never set.
func clockOffset() (time.Duration, error) {
	var now [2]unix.Timespec
	for i, clock := range []int32{unix.CLOCK_REALTIME, unix.CLOCK_MONOTONIC} {
		if err := unix.ClockGettime(clock, &now[i]); err != nil {
			return 0, os.NewSyscallError("clock_gettime", err)
		}
	}
	return time.Duration(now[0].Nano() - now[1].Nano()), nil
}

// excuse says that nobody but b9 has changed a file.
func (a *account) excuse(st *unix.Stat_t) { a.own[file{st.Dev, st.Ino}] = true }

// changed reports whether somebody else has, or may have.
func (a *account) changed(st *unix.Stat_t) bool {
	return changedSince(st, a.since.Nano()) && !a.own[file{st.Dev, st.Ino}]
}

// reliable reports whether times of change tell everything.
func (a *account) reliable() bool { return !a.other && a.steady() }

// steady reports whether the clock was not set meanwhile.
func (a *account) steady() bool {
	const grain = 10 * time.Millisecond // between the two readings, on a busy machine; less than a script's start
	now, err := clockOffset()
	return err == nil && (now-a.offset).Abs() < grain
}

// changedSince reports whether a file was changed at a time, in nanoseconds, or later.
// Some file systems count whole seconds.
func changedSince(st *unix.Stat_t, since int64) bool {
	at := st.Ctim.Nano()
	return at >= since || st.Ctim.Nsec == 0 && at+time.Second.Nanoseconds() > since
}

// empties notes whether directories that are to be emptied have anything in them.
func (a *account) empties(r *rootfs, dirs []string) error {
	for _, name := range dirs {
		dir, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			continue // it is not emptied
		}
		_, err = dir.Readdirnames(1)
		dir.Close()
		if err == nil {
			a.other = true
		} else if !errors.Is(err, io.EOF) {
			return err
		}
	}
	return nil
}
