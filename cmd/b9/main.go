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
	"slices"
	"strings"
	"syscall"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/container"
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
			os.Exit(exit.Interrupted)
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
	err := root.ExecuteContext(ctx)
	a.json = a.json || asked("--json", args)
	return a.status(ctx, err)
}

// status tells the error and turns it into an exit status. With --json the
// error is a document, too, unless the command has printed one.
func (a *app) status(ctx context.Context, err error) int {
	a.endLine()
	status, tell := exit.Of(ctx, err)
	if !tell {
		return status
	}
	if status == exit.Interrupted {
		err = errors.New(strings.TrimSuffix("interrupted: "+a.resumes, ": "))
	}
	fmt.Fprint(a.stderr, output.Text(err))
	if a.json && !a.documented {
		if perr := a.print(output.Errors{Status: status, Errors: output.Failures(err)}); perr != nil {
			fmt.Fprint(a.stderr, output.Text(perr))
		}
	}
	return status
}

// print writes a document for programs to standard output.
func (a *app) print(doc any) error {
	a.documented = true
	return output.Print(a.stdout, doc)
}

// asked reports whether a flag of the whole program is among the words of the
// command line. Where one of them is wrong the flags behind it are not known.
func asked(flag string, args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, flag)
}
