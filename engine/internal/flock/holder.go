package flock

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// Who holds a lock stands in /proc: a descriptor's fdinfo lists the locks of its
// opening. The process that /proc/locks names is the one that locked, which may be
// dead while a child has the descriptor, and for locks of openings there is none.

// Lock is what is locked of a file; zero is the whole, by flock(2).
type Lock struct {
	byte bool
	at   int64
}

// Byte is the lock of an opening on the byte at an offset: F_OFD_SETLK of fcntl(2).
func Byte(at int64) Lock { return Lock{true, at} }

// holder is a process that has a lock.
type holder struct {
	pid     int
	command string
	stopped bool
}

// String names the process, for a person.
func (h holder) String() string {
	switch {
	case h.pid == 0:
		return "a process that can't be seen from here"
	case h.stopped:
		return fmt.Sprintf("process %d (%s), which is stopped", h.pid, h.command)
	}
	return fmt.Sprintf("process %d (%s)", h.pid, h.command)
}

// HeldError is why a wait for a lock was given up.
type HeldError struct {
	holder holder
	after  time.Duration
}

// Error names the process, and what to do about it.
func (e *HeldError) Error() string {
	h := e.holder
	switch {
	case h.pid == 0:
		return fmt.Sprintf("%v has held the lock for %v", h, e.after)
	case h.stopped:
		return fmt.Sprintf("it is held by %v: continue it (kill -CONT %d) or end it (kill -KILL %d)", h, h.pid, h.pid)
	}
	return fmt.Sprintf("%v has held the lock for %v: end it if it hangs (kill %d)", h, e.after, h.pid)
}

// watch is one wait under way, seen by who waits.
type watch struct {
	patience Patience
	file     *os.File
	lock     Lock
	began    time.Time

	holder  holder
	looked  time.Time // at the holder
	sought  time.Time // in all of /proc
	told    string
	stopped time.Time // since when the holder has been seen stopped
}

// How often a holder that is known is looked at, and one that is not is looked for, in
// all that processes have open.
const (
	lookEvery = time.Second
	seekEvery = 20 * time.Second
)

// find returns who has the lock now.
func (w *watch) find(now time.Time) holder {
	if pid := w.holder.pid; pid != 0 {
		info, err := w.file.Stat()
		if err == nil && hasLock(fmt.Sprintf("/proc/%d/fd", pid), info, w.lock) {
			w.holder = processOf(pid)
			return w.holder
		}
	} else if !w.sought.IsZero() && now.Sub(w.sought) < seekEvery {
		return holder{}
	}
	w.sought = now
	w.holder = holderOf(w.file, w.lock)
	return w.holder
}

// look tells who is waited for, and returns an error when the wait has to end.
func (w *watch) look() error {
	now := time.Now()
	lasted := now.Sub(w.began)
	if lasted < NoticeAfter || now.Sub(w.looked) < lookEvery {
		return nil
	}
	w.looked = now
	h := w.find(now)
	if text := h.String(); w.patience.Tell != nil && text != w.told {
		w.patience.Tell(text)
		w.told = text
	}
	if !h.stopped {
		w.stopped = time.Time{}
	} else if w.stopped.IsZero() {
		w.stopped = now
	}
	stopped := h.stopped && now.Sub(w.stopped) >= StoppedLimit
	if stopped || w.patience.Most > 0 && lasted >= w.patience.Most {
		return &HeldError{h, lasted.Round(time.Second)}
	}
	return nil
}

// holderOf is the process that has the lock on f, one that is stopped before others;
// its pid is zero where none can be seen, as those of other users, or of other
// machines.
func holderOf(f *os.File, lock Lock) (found holder) {
	info, err := f.Stat()
	if err != nil {
		return holder{}
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil || !hasLock(dir, info, lock) {
			continue
		}
		if h := processOf(pid); h.pid != 0 && (found.pid == 0 || h.stopped && !found.stopped) {
			found = h
		}
	}
	return found
}

// hasLock reports whether one of the descriptors in dir has the lock on the file. What
// others have open is not touched: it may lie on a server that does not answer.
func hasLock(dir string, file os.FileInfo, lock Lock) bool {
	st, ok := file.Sys().(*syscall.Stat_t)
	fds, err := os.ReadDir(dir)
	if err != nil || !ok {
		return false
	}
	for _, fd := range fds {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "fdinfo", fd.Name()))
		if err != nil || !lock.in(string(text), st.Ino) {
			continue
		}
		if info, err := os.Stat(filepath.Join(dir, fd.Name())); err == nil && os.SameFile(info, file) {
			return true
		}
	}
	return false
}

// in reports whether the lock on the file with the inode number is one of those in
// the text of an fdinfo, as proc(5) describes it.
func (l Lock) in(fdinfo string, inode uint64) bool {
	kind := "FLOCK"
	if l.byte {
		kind = "OFDLCK"
	}
	for line := range strings.Lines(fdinfo) {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "lock:" || f[2] != kind || !strings.HasSuffix(f[6], fmt.Sprintf(":%d", inode)) {
			continue
		}
		if !l.byte || f[7] == strconv.FormatInt(l.at, 10) {
			return true
		}
	}
	return false
}

// processOf describes a process; its pid is zero when it is gone.
func processOf(pid int) holder {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return holder{}
	}
	open, closing := strings.IndexByte(string(stat), '('), strings.LastIndexByte(string(stat), ')')
	if open < 0 || closing+2 >= len(stat) {
		return holder{}
	}
	state := stat[closing+2]
	h := holder{pid: pid, command: string(stat[open+1 : closing]), stopped: state == 'T' || state == 't'}
	if words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && len(words) > 0 {
		h.command = strings.TrimRight(string(words), "\x00")
	}
	h.command = plain(h.command)
	return h
}

// longestCommand is how many characters of a command line are shown.
const longestCommand = 80

// plain is a command line with spaces between its words and without what terminals obey.
func plain(words string) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, words))
	if len(runes) > longestCommand {
		runes = append(runes[:longestCommand-1], '…')
	}
	return string(runes)
}
