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
// When the context ends it returns within 50 ms, with the terminal as it was and
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

// untilReadable waits until there is a line to read or the context has ended,
// which it checks 20 times a second.
func untilReadable(ctx context.Context, fd int) error {
	const milliseconds = 50
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, milliseconds)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case err == nil && n > 0:
			return nil
		}
	}
}
