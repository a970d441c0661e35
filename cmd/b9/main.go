// Command b9 builds virtual-machine images from B9BUILD.star files.
//
// Each command has a file of its own and turns flags into calls of the
// packages below; `b9 help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"b9/builtins"
	"b9/engine/container"
)

// Exit statuses. A command that runs something in an image passes that
// command's own status on.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130

	exitNotExecutable = 126 // as shells have it, where a command was to run in an image
	exitNotFound      = 127
)

func main() {
	container.Main()
	// What a step makes must not depend on who runs it: modes that no one asked
	// for are those of umask 022, as in a distribution's packages.
	syscall.Umask(0o022)
	// b9 is short-lived and small; fewer collections make a no-op build
	// noticeably quicker. The limit keeps a large graph in bounds.
	debug.SetGCPercent(1000)
	debug.SetMemoryLimit(160 << 20)
	ctx, stop := withSignals(context.Background())
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// withSignals cancels the context on the first signal, so that everything is
// tidied up, and ends the process at the second.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		cancel(errInterrupted)
		if _, ok := <-signals; ok {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// run is the whole program but for the process around it. Results go to
// stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	defer a.close()
	root := a.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return a.status(ctx, root.ExecuteContext(ctx))
}

// usageError is a mistake in the words of the command line.
type usageError struct{ err error }

func (u usageError) Error() string { return u.err.Error() }
func (u usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitStatus is the status of a command that ran in an image. It is passed on without a message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// errReported is returned by a command that has told the user already.
var errReported = errors.New("reported")

// status prints the error and turns it into an exit status.
func (a *app) status(ctx context.Context, err error) int {
	var status exitStatus
	var usage usageError
	var missing notStarted
	a.endLine()
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case context.Cause(ctx) != nil:
		fmt.Fprintln(a.stderr, strings.TrimSuffix("b9: interrupted: "+a.resumes, ": "))
		return exitInterrupted
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &missing):
		fmt.Fprintf(a.stderr, "b9: %v\n", err)
		return missing.status()
	case errors.As(err, &usage):
		fmt.Fprintf(a.stderr, "b9: %v\n", err)
		return exitUsage
	}
	var mistakes builtins.Errors
	if errors.As(err, &mistakes) {
		fmt.Fprintln(a.stderr, err) // every line begins with a place
		if errors.Is(err, builtins.ErrOption) {
			return exitUsage
		}
		return exitFailed
	}
	fmt.Fprintf(a.stderr, "b9: %v\n", err)
	return exitFailed
}
