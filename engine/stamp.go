package engine

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Stamp is what stat said of a path at some moment, links followed. As long
// as it says the same, the file has the same content, and the directory the
// same entries.
type Stamp struct {
	Path string // absolute
	Sign string // inode, mode, size and times; absent for no such file
	Age  int64  // nanoseconds since the last change: within the clock's grain the times vouch for nothing; not traced
	// Coarse tells of a clock that seems to count no less than 10 ms. Not traced.
	Coarse bool
}

// absent is the sign of a path at which there is nothing.
const absent = "-"

// Two changes within the grain of a file system's clock may leave the same
// times. Most count at least in the kernel's ticks, a few in seconds. The
// change time is what counts: every change sets it, and nobody else can.
const (
	fineGrain   = 100 * time.Millisecond
	coarseGrain = 2 * time.Second
	// fineUnit divides every time that a coarse clock gives.
	fineUnit = 10 * time.Millisecond
)

// StampOf notes what stat says of path now. To stand for what is then read
// it must come before the reading.
func StampOf(path string) Stamp {
	now := time.Now().UnixNano()
	var st unix.Stat_t
	if !statted(unix.Stat, path, &st) {
		return Stamp{Path: path, Sign: absent}
	}
	changed := st.Ctim.Nano()
	return Stamp{path, statSign(&st), now - changed, changed%int64(fineUnit) == 0}
}

// racy reports whether the file changed within the grain of its file system's
// clock before stat was asked. Zero stands for what such clocks have.
func (s Stamp) racy(grain time.Duration) bool {
	switch {
	case s.Sign == absent:
		return false
	case grain == 0 && s.Coarse:
		grain = coarseGrain
	case grain == 0:
		grain = fineGrain
	}
	return s.Age < int64(grain)
}

// same reports whether stat says of the path now what it said then.
func (s Stamp) same() bool {
	var st unix.Stat_t
	if !statted(unix.Stat, s.Path, &st) {
		return s.Sign == absent
	}
	return statSign(&st) == s.Sign
}

func statted(stat func(string, *unix.Stat_t) error, path string, st *unix.Stat_t) bool {
	for {
		if err := stat(path, st); err != unix.EINTR {
			return err == nil
		}
	}
}

// statSign is a text without spaces that differs when anyone changed the file.
func statSign(st *unix.Stat_t) string {
	b := make([]byte, 0, 80)
	b = strconv.AppendUint(b, st.Ino, 10)
	b = strconv.AppendUint(append(b, ':'), uint64(st.Mode), 8)
	for _, n := range []int64{st.Size, st.Mtim.Nano(), st.Ctim.Nano()} {
		b = strconv.AppendInt(append(b, ':'), n, 10)
	}
	return string(b)
}
