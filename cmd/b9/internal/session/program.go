// Package session is what the commands of b9 have in common.
//
//	Program       one run of b9: streams, and the flags that every command has
//	Session       a program whose configuration is loaded; opens the store,
//	              the workspace, repositories and the container backend
//	Repositories  of shared images: which there are, and how they are opened
//	Workspace     the build files, and the shared images that they use
//
// A command makes a Session from its flags, and passes it on. Nothing in either
// changes afterwards but what is opened when it is first needed, and that a document
// was printed.
package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/log"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/near"
	"b9.build/b9/engine/tool"
)

// Flags are those that every command has.
type Flags struct {
	Dir      string
	Settings []string // -c KEY=VALUE
	JSON     bool
	Quiet    bool
	Verbose  bool
	Store    string
	LogTo    string // --log-file: "" for none
	LogLevel string
}

// Program is one run of b9.
type Program struct {
	Flags
	In      io.Reader
	Out     io.Writer        // results
	Err     io.Writer        // for programs that b9 starts
	Console *display.Console // everything else, on Err
	// Umask is the user's: what the user's files get no permission for. The process
	// has another, for steps.
	Umask fs.FileMode
	// Command is the name of the command, such as "repo list".
	Command string
	// ForkAbove is that of store.Options: how much data an image has that is not copied for a
	// step, where the file system can't share it.
	ForkAbove int64
	// Log has what happens written down; nil for nowhere.
	Log *log.Log
	// Interrupted is closed when b9 is to end: no wait for another process goes on.
	Interrupted <-chan struct{}

	documented bool // a document was printed
}

// New returns a program with these streams. Its flags are set by the command line.
func New(in io.Reader, out, err io.Writer) *Program {
	return &Program{In: in, Out: out, Err: err, Console: display.NewConsole(err), Umask: 0o022}
}

// Print writes a document for programs to standard output.
func (p *Program) Print(doc any) error { return p.PrintTo(p.Out, doc) }

// PrintTo is Print for a command whose standard output is not its own.
func (p *Program) PrintTo(w io.Writer, doc any) error {
	p.documented = true
	return output.Print(w, doc)
}

// Show prints the result of a command: the document with --json, else the text.
func (p *Program) Show(doc any, text string) error {
	if p.JSON {
		return p.Print(doc)
	}
	_, err := io.WriteString(p.Out, text)
	return err
}

// Tell prints a message for people, unless they want none.
func (p *Program) Tell(format string, args ...any) {
	if !p.Quiet {
		fmt.Fprintf(p.Console, format+"\n", args...)
	}
}

// Status prints the error of a command and returns the exit status. With --json
// the error is a document, too, unless the command has printed one.
func (p *Program) Status(ctx context.Context, err error) int {
	p.Console.EndLine()
	status, tell := exit.Of(ctx, err)
	if status == exit.Interrupted {
		err = exit.Interruption(err)
	}
	if tell {
		p.tellRest(err)
		fmt.Fprint(p.Console, output.Text(err))
	}
	if tell || exit.IsReported(err) {
		p.Log.Say(slog.LevelError, "error", "text", strings.TrimSpace(output.Text(err)))
	}
	if p.JSON && !p.documented && (tell || exit.IsReported(err)) {
		if err := p.Print(output.Errors{Status: status, Errors: output.Failures(err)}); err != nil {
			fmt.Fprint(p.Console, output.Text(err))
		}
	}
	return status
}

// tellRest prints, for who wants it, what a program printed of which the error has only
// the cause. Of a step its log has that.
func (p *Program) tellRest(err error) {
	rest := tool.Rest(err)
	switch {
	case rest == "" || errors.As(err, new(*engine.StepError)):
	case p.Verbose:
		fmt.Fprintln(p.Console, strings.TrimSpace(rest))
	case !p.Quiet:
		fmt.Fprintln(p.Console, "b9: -v prints all that the program said, of which this is the cause:")
	}
}

// WorkDir is the absolute directory that the command works in.
func (p *Program) WorkDir() (string, error) {
	if p.Dir == "" {
		return os.Getwd()
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", exit.Usagef("-C %s: no such directory", p.Dir)
	}
	return dir, nil
}

// Path makes the name of a file absolute, seen from the working directory.
func (p *Program) Path(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir, err := p.WorkDir()
	return filepath.Join(dir, name), err
}

// StartLog begins to write down what happens, if a flag asks for it.
func (p *Program) StartLog() error {
	if p.LogTo == "" && p.LogLevel == "" {
		return nil
	}
	level, where := cmp.Or(p.LogLevel, "info"), cmp.Or(p.LogTo, log.Stderr)
	if !slices.Contains(log.Levels(), level) {
		return exit.Usagef("--log-level %s: want %s%s", level, strings.Join(log.Levels(), ", "), near.Hint(level, log.Levels()))
	}
	if where != log.Stderr && where != log.Journal {
		var err error
		if where, err = p.Path(where); err != nil {
			return err
		}
	}
	l, err := log.Open(where, level, p.Console, 0o666&^p.Umask)
	if err != nil {
		return exit.Usagef("--log-file %s: %w", p.LogTo, err)
	}
	p.Log = l
	p.Console.AlsoTo(func(text string) { l.Warn("message", "text", text) })
	l.Info("begin", "command", p.Command, "version", Version().Version, "directory", dirOf(p), "process", os.Getpid())
	return nil
}

func dirOf(p *Program) string {
	dir, _ := p.WorkDir() // a wrong one is told later
	return dir
}

// EndLog writes down how it ended.
func (p *Program) EndLog(status int) {
	p.Log.Say(slog.LevelInfo, "end", "command", p.Command, "status", status)
	if err := p.Log.Close(); err != nil {
		p.Console.AlsoTo(nil)
		p.Console.Warn("--log-file %s: %v", p.LogTo, err)
	}
}

// Check checks the flags that every command has, whether it needs them or not.
func (p *Program) Check() error {
	if _, err := p.WorkDir(); err != nil || len(p.Settings) == 0 {
		return err
	}
	_, err := p.Open()
	return err
}

// again repeats the flags that a command needs which b9 suggests.
func (p *Program) again() string {
	var b strings.Builder
	for _, f := range []struct{ name, value string }{{"-C", p.Dir}, {"--store", p.Store}} {
		if f.value != "" {
			b.WriteString(f.name + " " + display.ShellWord(f.value) + " ")
		}
	}
	return b.String()
}
