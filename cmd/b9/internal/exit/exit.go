// Package exit chooses the exit status of b9.
//
//	Error     an error with a status of its own: see Usage and Status
//	Reported  an error that is printed already
//	Resumes   adds how a command goes on after an interruption
//	Of        the status for what a command returned
//
// Nothing here ends the process or prints: main and package session do.
// docs/output.md has the table of statuses.
package exit

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
	Unread      = 141 // as of a program that SIGPIPE ended

	// The statuses of `b9 image compare`, which are those of cmp.
	Different = 1
	Trouble   = 2
)

// Error is an error that chooses the exit status. Without Err the status is
// passed on and nothing is printed.
type Error struct {
	Status int
	Err    error // nil for a status that says all

	reported bool // by the command
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
// which is all that an interrupted command prints.
func Resumes(err error, how string) error {
	if err == nil {
		return nil
	}
	return resumable{err, how}
}

// Interruption is the error that is printed for an interrupted command.
func Interruption(err error) error {
	var r resumable
	if errors.As(err, &r) {
		return errors.New("interrupted: " + r.how)
	}
	return errors.New("interrupted")
}

// Reported makes err one that the command has printed already.
func Reported(err error) error { return &Error{Status: Failed, Err: err, reported: true} }

// Comparison is the error of a command that compared two things, with the statuses of
// cmp.
func Comparison(same bool, err error) error {
	switch {
	case err != nil:
		return &Error{Status: Trouble, Err: err, reported: IsReported(err)}
	case !same:
		return Status(Different)
	}
	return nil
}

// IsReported reports whether err is one of [Reported].
func IsReported(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.reported
}

// ErrUnread is the cause of a context that ended since nobody reads what b9 prints.
var ErrUnread = errors.New("nobody reads the output")

// Of returns the exit status for the error of a command, and whether the error
// is still to be printed.
func Of(ctx context.Context, err error) (status int, tell bool) {
	var chosen *Error
	var mistakes lang.Errors
	switch {
	case errors.Is(context.Cause(ctx), ErrUnread):
		return Unread, false
	case err == nil:
		return OK, false
	case errors.As(err, &chosen) && chosen.Err == nil:
		return chosen.Status, false
	case context.Cause(ctx) != nil:
		return Interrupted, true
	case chosen != nil:
		return chosen.Status, !chosen.reported
	case errors.As(err, &mistakes) && fromCommandLine(mistakes):
		return WrongUsage, true
	}
	return Failed, true
}

// fromCommandLine reports whether the mistakes are in targets, patterns and the
// values of options. Targets and patterns have no position in a file; beside a
// mistake in a build file they count as that one's consequence.
func fromCommandLine(mistakes lang.Errors) bool {
	inFile := func(m *lang.Error) bool { return m.Pos.File != "" }
	return errors.Is(mistakes, lang.ErrOption) || !slices.ContainsFunc(mistakes, inFile)
}
