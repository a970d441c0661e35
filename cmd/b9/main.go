// Command b9 builds virtual-machine images from B9BUILD.star files.
//
// The commands are packages below internal, by subject; `b9 help` lists them, and
// commands.go has their table. Only main ends the process.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/profile"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/container/backends"
)

func main() {
	backends.Main()
	// What a step makes must not depend on who runs it: modes that no one asked
	// for are those of umask 022, as in a distribution's packages.
	// What b9 puts where the user finds it obeys the user's own (session.Program).
	umask := syscall.Umask(0o022)
	boundMemory()
	ctx, cancel := context.WithCancelCause(context.Background())
	p := session.New(os.Stdin, whileRead(standardOutput(), cancel), whileRead(os.Stderr, cancel))
	p.Umask = fs.FileMode(umask)
	stop := withSignals(cancel, p.Console)
	code := runProgram(ctx, p, os.Args[1:])
	stop()
	if code == exit.Unread {
		endUnread()
	}
	os.Exit(code)
}

// standardOutput is that of the process, and takes nothing if it was started without.
func standardOutput() io.Writer {
	if closedAtStart(1) {
		return closed{os.Stdout.Name()}
	}
	return os.Stdout
}

// closed is a file that was closed.
type closed struct{ name string }

// Write implements io.Writer.
func (c closed) Write([]byte) (int, error) {
	return 0, &fs.PathError{Op: "write", Path: c.name, Err: syscall.EBADF}
}

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// whileRead is w, and cancels when nobody reads it any longer, so that everything
// is tidied up before the process ends by SIGPIPE, as others do at once.
func whileRead(w io.Writer, cancel context.CancelCauseFunc) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return w
	}
	if st, err := f.Stat(); err != nil || st.Mode()&(fs.ModeNamedPipe|fs.ModeSocket) == 0 {
		return w // terminals are asked what they are
	}
	return pipe{f, cancel}
}

// pipe is a stream to another process.
type pipe struct {
	to     io.Writer
	cancel context.CancelCauseFunc
}

// Write implements io.Writer.
func (p pipe) Write(data []byte) (int, error) {
	n, err := p.to.Write(data)
	if errors.Is(err, syscall.EPIPE) {
		p.cancel(exit.ErrUnread)
	}
	return n, err
}

// endUnread ends the process by SIGPIPE. The runtime takes it for granted when it
// comes from elsewhere than a write to one of these streams.
func endUnread() {
	signal.Reset(syscall.SIGPIPE)
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		state := []unix.PollFd{{Fd: int32(f.Fd())}}
		if n, err := unix.Poll(state, 0); err == nil && n > 0 && state[0].Revents&unix.POLLERR != 0 {
			_, _ = f.Write([]byte{'\n'})
		}
	}
}

// stopping is what the first signal is answered with.
const stopping = "stopping: containers are ended and everything is tidied up; a second Ctrl-C ends b9 at once, and the next b9 tidies up"

// withSignals cancels on the first signal, so that everything is tidied up, and says so;
// it ends the process at the second. A write to a closed pipe is an error and no signal.
func withSignals(cancel context.CancelCauseFunc, console *display.Console) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		say(console)
		cancel(errInterrupted)
		if _, ok := <-signals; ok {
			console.Abandon()
			os.Exit(exit.Interrupted)
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// say answers the first signal, and does not wait for a terminal that takes nothing.
func say(console *display.Console) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		console.Note(stopping)
	}()
	select {
	case <-said:
	case <-time.After(time.Second):
	}
}

// run is runAs for a user with the umask that most have.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return runAs(ctx, 0o022, args, stdin, stdout, stderr)
}

// runAs is the whole program but for the process around it. Results go to
// stdout, everything else to stderr.
func runAs(ctx context.Context, umask int, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := session.New(stdin, stdout, stderr)
	p.Umask = fs.FileMode(umask)
	return runProgram(ctx, p, args)
}

func runProgram(ctx context.Context, p *session.Program, args []string) int {
	p.Interrupted = ctx.Done()
	help := &output.Checked{To: p.Out}
	var developer profile.Flags
	var stop func() error
	root := commands(p, args...)
	if slices.Contains(args, cobra.ShellCompRequestCmd) || slices.Contains(args, cobra.ShellCompNoDescRequestCmd) {
		offer(p, root)
	}
	developer.Register(root.PersistentFlags())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		p.Command = command.Name(cmd)
		if err := command.NoneEmpty(cmd); err != nil {
			return err
		}
		if stop, err = developer.Start(); err != nil {
			return err
		}
		if err := p.StartLog(); err != nil {
			return err
		}
		return p.Check()
	}
	root.SetArgs(args)
	root.SetIn(p.In)
	root.SetOut(help)
	root.SetErr(p.Console)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = help.Err // which cobra does not look at
	}
	p.JSON = p.JSON || asked("--json", args)
	status := p.Status(ctx, err)
	p.EndLog(status)
	if stop != nil {
		if err := stop(); err != nil {
			fmt.Fprint(p.Console, output.Text(err))
		}
	}
	return status
}

// asked reports whether a flag of the whole program is among the words of the
// command line. Where one of them is wrong the flags behind it are not known.
func asked(flag string, args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, flag)
}
