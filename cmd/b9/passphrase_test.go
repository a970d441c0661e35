package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func echoes(t *testing.T, tty *os.File) bool {
	t.Helper()
	mode, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return mode.Lflag&unix.ECHO != 0
}

// hidden waits until what is typed is not shown.
func hidden(t *testing.T, tty *os.File) {
	t.Helper()
	for range 1000 {
		if !echoes(t, tty) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("what is typed is shown")
}

// asked asks for a passphrase, and returns once what is typed is hidden.
func asked(t *testing.T, ctx context.Context, tty *os.File) (answer func() (string, error)) {
	t.Helper()
	type result struct {
		line []byte
		err  error
	}
	done := make(chan result, 1)
	ask := (&app{stdin: tty, stderr: io.Discard}).passphrase()
	go func() {
		line, err := ask(ctx, "key")
		done <- result{line, err}
	}()
	hidden(t, tty)
	return func() (string, error) {
		r := <-done
		return string(r.line), r.err
	}
}

func TestPassphraseIsRead(t *testing.T) {
	master, slave := openPTY(t)
	answer := asked(t, t.Context(), slave)
	if _, err := master.WriteString("a secret \r"); err != nil {
		t.Fatal(err)
	}
	if got, err := answer(); err != nil || got != "a secret " || !echoes(t, slave) {
		t.Errorf("read %q, %v; shown again: %v", got, err, echoes(t, slave))
	}
	if (&app{stdin: new(bytes.Buffer)}).passphrase() != nil {
		t.Error("it is asked where there is no terminal")
	}
}

func TestPassphraseIsCancelled(t *testing.T) {
	_, slave := openPTY(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	answer := asked(t, ctx, slave)
	cancel(errInterrupted)
	if _, err := answer(); !errors.Is(err, errInterrupted) || !echoes(t, slave) {
		t.Errorf("error %v; shown again: %v", err, echoes(t, slave))
	}
}
