package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// AskPassphrase returns a function for [Options].Passphrase that asks on
// the terminal tty, which it reads without echo; the question goes to prompt.
// When the context ends it returns at once, with the terminal as it was and
// without what was typed so far.
func AskPassphrase(tty *os.File, prompt io.Writer) func(ctx context.Context, file string, again bool) ([]byte, error) {
	return func(ctx context.Context, file string, again bool) ([]byte, error) {
		if again {
			fmt.Fprint(prompt, "wrong, once more: ")
		}
		fmt.Fprintf(prompt, "passphrase of %s: ", file)
		defer fmt.Fprintln(prompt)
		return readSecret(ctx, int(tty.Fd()))
	}
}

// maxSecret is the longest line a terminal gives.
const maxSecret = 4096

// readSecret reads a line from a terminal, without its end.
func readSecret(ctx context.Context, fd int) (line []byte, err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("no terminal: %w", err)
	}
	silent := *before
	silent.Lflag = silent.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	silent.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return nil, fmt.Errorf("turn off the terminal's echo: %w", err)
	}
	defer func() {
		how := uint(unix.TCSETS)
		if err != nil {
			how = unix.TCSETSF // half a passphrase is for nobody
		}
		err = errors.Join(err, unix.IoctlSetTermios(fd, how, before))
	}()
	if err := untilReadable(ctx, fd); err != nil {
		return nil, err
	}
	buf := make([]byte, maxSecret)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return nil, err
	}
	line, whole := bytes.CutSuffix(buf[:n], []byte("\n"))
	if !whole && n == 0 {
		return nil, errors.New("the terminal was closed")
	}
	return line, nil
}

// untilReadable waits until there is a line to read or the context ends.
func untilReadable(ctx context.Context, fd int) error {
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	rung := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(rung)
		unix.Write(bell, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !stop() {
			<-rung
		}
		unix.Close(bell)
	}()
	for {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(bell), Events: unix.POLLIN}}
		_, err := unix.Poll(polled, -1)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case err == nil && polled[0].Revents != 0:
			return nil
		}
	}
}
