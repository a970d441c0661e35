// Package exit holds the exit statuses of b9: what they mean ([Meanings]), the
// errors that choose one ([Usage], [Status], [Reported]), and the choice
// itself ([Of]). Nothing here ends the process: main does.
package exit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"b9.build/b9/builtins/lang"
)

// The statuses that commands share.
const (
	OK          = 0
	Failed      = 1
	WrongUsage  = 2
	WouldRun    = 3   // of explain --exit-code
	CannotRun   = 126 // as shells have it, where a command was to run in an image
	NotFound    = 127 // likewise
	Interrupted = 130

	// The statuses of `b9 image compare`, which are those of cmp.
	Different = 1
	Trouble   = 2
)

// Meaning is one row of the table of exit statuses.
type Meaning struct {
	Status string // a number, or who chooses it
	Of     string // the commands that end with it
	When   string
}

// Meanings is the table that the README and docs/output.md show.
func Meanings() []Meaning {
	return []Meaning{
		{"0", "every command", "what was asked for is done"},
		{"1", "every command", "a step failed, a build file is wrong, or something else could not be done; `doctor`: builds will not work here; `cache verify`, `repo check`, `image check`: there is damage"},
		{"2", "every command", "the command line or the configuration is wrong: an unknown command, flag, target, pattern, option or repository, or a value that is not allowed"},
		{"3", "`explain --exit-code`", "a step would run"},
		{"0, 1, 2", "`image compare`", "as cmp: the same, different, not to be compared"},
		{"the command's", "`run`, `shell`", "a command ran in the image; 128 and the number after a signal"},
		{"126", "`run`, `shell`", "the command can't be executed"},
		{"127", "`run`, `shell`", "the command is not in the image"},
		{"130", "every command", "interrupted by SIGINT, SIGTERM or SIGHUP"},
	}
}

// Markdown is the table as the documentation has it.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| Status | Commands | When |\n|---|---|---|\n")
	for _, m := range Meanings() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m.Status, m.Of, m.When)
	}
	return b.String()
}

// Error is an error that chooses the exit status. Without Err the status is
// passed on and nothing is printed.
type Error struct {
	Status int
	Err    error // nil for a status that says all
}

// Error is the text of Err.
func (e *Error) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Status ends the program with a status, without a message.
func Status(status int) error { return &Error{Status: status} }

// Usage makes err a mistake in the command line or the configuration.
func Usage(err error) error { return &Error{Status: WrongUsage, Err: err} }

// Usagef is Usage of a new error.
func Usagef(format string, args ...any) error { return Usage(fmt.Errorf(format, args...)) }

// resumable is an error of a command that can be run again to go on.
type resumable struct {
	error
	how string
}

func (r resumable) Unwrap() error { return r.error }

// Resumes adds to the error of a command how it goes on after an interruption,
// which is all that is told of an interrupted one.
func Resumes(err error, how string) error {
	if err == nil {
		return nil
	}
	return resumable{err, how}
}

// Interruption is what is told of an interrupted command.
func Interruption(err error) error {
	var r resumable
	if errors.As(err, &r) {
		return errors.New("interrupted: " + r.how)
	}
	return errors.New("interrupted")
}

// reported is an error that the user has been told.
type reported struct{ error }

func (r reported) Unwrap() error { return r.error }

// Reported marks the error of a command that has told people of it already.
func Reported(err error) error { return reported{err} }

// IsReported tells errors that were marked by [Reported].
func IsReported(err error) bool {
	var r reported
	return errors.As(err, &r)
}

// Of returns the exit status for the error of a command, and whether the error
// is still to be told.
func Of(ctx context.Context, err error) (status int, tell bool) {
	var chosen *Error
	var mistakes lang.Errors
	switch {
	case err == nil:
		return OK, false
	case errors.As(err, &chosen) && chosen.Err == nil:
		return chosen.Status, false
	case context.Cause(ctx) != nil:
		return Interrupted, true
	case IsReported(err):
		return Failed, false
	case chosen != nil:
		return chosen.Status, true
	case errors.As(err, &mistakes) && fromCommandLine(mistakes):
		return WrongUsage, true
	}
	return Failed, true
}

// fromCommandLine reports whether the mistakes are in targets, patterns and the
// values of options. Targets and patterns have no place in a file; beside a
// mistake in a build file they count as that one's consequence.
func fromCommandLine(mistakes lang.Errors) bool {
	inFile := func(m *lang.Error) bool { return m.Pos.File != "" }
	return errors.Is(mistakes, lang.ErrOption) || !slices.ContainsFunc(mistakes, inFile)
}
