// Package log writes down what b9 does, a line each with its time and level, for whoever
// looks at it later: to a file, to standard error, or to the journal of systemd. It hides
// the three forms, and that a line could not be written, which hinders nothing.
//
//	Open    a Log, which is closed at the end
//	Event   tells what happened in a build
//	Levels  are what --log-level takes
package log

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"b9.build/b9/engine"
)

// The places that are no files.
const (
	Stderr  = "stderr"
	Journal = "journal"
)

// Levels are the names of the levels, from the one with the fewest lines.
func Levels() []string { return []string{"error", "warn", "info", "debug"} }

// levelOf is the level of a name, which is one of Levels.
func levelOf(name string) slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(name)) // all of Levels are slog's
	return l
}

// Log is where lines go. A nil Log takes everything and keeps nothing. Its methods may be called by
// several goroutines.
type Log struct {
	*slog.Logger
	file *os.File // nil for none
	to   *noted
}

// Open opens the log at a place: Stderr, Journal, or a file, which is made where it is
// missing and written on otherwise.
func Open(where, level string, stderr io.Writer, mode fs.FileMode) (*Log, error) {
	l := &Log{to: &noted{}}
	least := levelOf(level)
	if where == Journal {
		h, err := newJournal(least, l.to)
		l.Logger = slog.New(h)
		return l, err
	}
	l.to.w = stderr
	if where != Stderr {
		f, err := os.OpenFile(where, os.O_WRONLY|os.O_APPEND|os.O_CREATE, mode)
		if err != nil {
			return nil, err
		}
		l.file, l.to.w = f, f
	}
	l.Logger = slog.New(slog.NewTextHandler(l.to, &slog.HandlerOptions{Level: least}))
	return l, nil
}

// Close returns the error of the first line that could not be written, if there is one.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	var err error
	if l.file != nil {
		err = l.file.Close()
	}
	l.to.mu.Lock()
	defer l.to.mu.Unlock()
	return errors.Join(l.to.err, err)
}

// Say writes a line.
func (l *Log) Say(level slog.Level, text string, fields ...any) {
	if l != nil {
		l.Log(context.Background(), level, text, fields...)
	}
}

// Event writes what happened in a build: that a step began, ended or failed, and on the level
// of debug what it printed, and which steps were cached.
func (l *Log) Event(e engine.Event) {
	if l == nil {
		return
	}
	switch e.Type {
	case engine.GraphReady:
		l.Info("graph", "steps", e.Total)
	case engine.StepStarted:
		l.Info("started", "label", e.Node.Label(), "builtin", e.Node.Builtin(), "key", e.Key.String())
	case engine.StepDone:
		l.Info("done", "label", e.Node.Label(), "seconds", e.Duration.Seconds())
	case engine.StepFailed:
		l.Error("failed", "label", e.Node.Label(), "seconds", e.Duration.Seconds(), "error", e.Err)
	case engine.StepCached:
		l.Debug("cached", "label", e.Node.Label())
	case engine.StepLog:
		l.Debug("output", "label", e.Node.Label(), "line", e.Line)
	case engine.Notice:
		l.Info("note", "line", e.Line)
	}
}

// noted is a writer whose first error is kept, and which has none to those who write.
type noted struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

func (n *noted) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		_, n.err = n.w.Write(p)
	}
	return len(p), nil
}

// fail notes that a line could not be written.
func (n *noted) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.err = err
	}
}
