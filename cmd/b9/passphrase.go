package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// passphrase asks on the terminal; nil where there is none.
func (a *app) passphrase() func(context.Context, string) ([]byte, error) {
	tty, ok := a.stdin.(*os.File)
	if !ok || !isTTY(tty) {
		return nil
	}
	return func(ctx context.Context, file string) ([]byte, error) {
		fmt.Fprintf(a.stderr, "passphrase of %s: ", file)
		defer fmt.Fprintln(a.stderr)
		return readSecret(ctx, int(tty.Fd()))
	}
}

// secretPoll is how often a wait for a line looks whether it was cancelled.
const secretPoll = 50 * time.Millisecond

// readSecret reads a line from a terminal without showing it. When the
// context is cancelled it returns at once; either way the terminal is then as
// it was.
func readSecret(ctx context.Context, tty int) (line []byte, err error) {
	old, err := unix.IoctlGetTermios(tty, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *old
	hidden.Lflag = hidden.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	hidden.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(tty, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(tty, unix.TCSETS, old)) }()
	buf := make([]byte, 4096) // as long as a line of a terminal can be
	for ctx.Err() == nil {
		ready := []unix.PollFd{{Fd: int32(tty), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(secretPoll.Milliseconds()))
		if n == 0 || err == unix.EINTR {
			continue
		}
		if err == nil {
			n, err = unix.Read(tty, buf)
		}
		if err == nil && n == 0 {
			err = errors.New("no passphrase was typed")
		}
		if err != nil {
			return nil, err
		}
		return bytes.TrimSuffix(buf[:n], []byte("\n")), nil
	}
	return nil, context.Cause(ctx)
}
