package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal connects the caller's terminal to the command's.
type terminal struct {
	tty      *os.File
	saved    *term.State
	input    *pump
	output   sync.WaitGroup
	resizing sync.WaitGroup
	resized  chan os.Signal
}

func newTerminal(tty *os.File) (*terminal, error) {
	if !term.IsTerminal(int(tty.Fd())) {
		return nil, fmt.Errorf("%s is not a terminal", tty.Name())
	}
	return &terminal{tty: tty}, nil
}

// A terminal has no files to hand over: its other end comes from the container.
func (*terminal) files() []*os.File { return nil }
func (*terminal) handOver()         {}

// size is the terminal's, or that of a usual one where it has none.
func (t *terminal) size() *windowSize {
	w, err := unix.IoctlGetWinsize(int(t.tty.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return &windowSize{Columns: 80, Rows: 24}
	}
	return &windowSize{Columns: w.Col, Rows: w.Row}
}

// connect begins to pass on keys, output and size. It takes over master.
func (t *terminal) connect(master *os.File) error {
	dup, err := unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		master.Close()
		return os.NewSyscallError("dup", err)
	}
	keys := os.NewFile(uintptr(dup), "keys")
	if t.saved, err = term.MakeRaw(int(t.tty.Fd())); err == nil {
		t.input, err = newPump(t.tty, keys)
	}
	if err != nil {
		master.Close()
		keys.Close()
		return fmt.Errorf("terminal: %w", err)
	}
	t.followSize(master)
	t.output.Go(func() {
		// It ends with EIO when the last process has let go of the terminal.
		_, _ = io.Copy(t.tty, master)
		t.stopResizing()
		master.Close()
	})
	return nil
}

func (t *terminal) followSize(master *os.File) {
	t.resized = make(chan os.Signal, 1)
	signal.Notify(t.resized, unix.SIGWINCH)
	// The size may have changed before the signal was asked for.
	t.resized <- unix.SIGWINCH
	t.resizing.Go(func() {
		for range t.resized {
			s := t.size()
			_ = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: s.Columns, Row: s.Rows})
		}
	})
}

func (t *terminal) stopResizing() {
	signal.Stop(t.resized)
	close(t.resized)
	t.resizing.Wait()
}

// finish waits for the last output and restores the terminal.
func (t *terminal) finish() error {
	t.output.Wait()
	var err error
	if t.input != nil {
		t.input.stop()
	}
	if t.saved != nil {
		err = term.Restore(int(t.tty.Fd()), t.saved)
	}
	if err != nil && !errors.Is(err, unix.EIO) {
		return fmt.Errorf("restore the terminal: %w", err)
	}
	return nil
}
