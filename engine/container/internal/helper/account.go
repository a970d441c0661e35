package helper

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

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
	return st.Ctim.Nano() >= a.since.Nano() && !a.own[file{st.Dev, st.Ino}]
}

// reliable reports whether times of change tell everything: not when the clock was set
// meanwhile.
func (a *account) reliable() bool {
	const grain = 10 * time.Millisecond // between the two readings, on a busy machine; less than a script's start
	now, err := clockOffset()
	return err == nil && !a.other && (now-a.offset).Abs() < grain
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
