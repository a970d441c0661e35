package log

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// toJournal sends lines to systemd-journald: each field is one of the entry, too, so that
// `journalctl -t b9 B9_LABEL=//web:disk` finds what happened to a target.
type toJournal struct {
	least slog.Level
	with  []slog.Attr
	to    *noted // is told of errors
}

func newJournal(least slog.Level, to *noted) (slog.Handler, error) {
	if !journal.Enabled() {
		return slog.DiscardHandler, errors.New("no journal of systemd answers on this machine")
	}
	return &toJournal{least: least, to: to}, nil
}

// Enabled implements slog.Handler.
func (j *toJournal) Enabled(_ context.Context, level slog.Level) bool { return level >= j.least }

// WithAttrs implements slog.Handler.
func (j *toJournal) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *j
	with.with = append(j.with[:len(j.with):len(j.with)], attrs...)
	return &with
}

// WithGroup implements slog.Handler; the fields of b9 have no groups.
func (j *toJournal) WithGroup(string) slog.Handler { return j }

// Handle implements slog.Handler.
func (j *toJournal) Handle(_ context.Context, r slog.Record) error {
	text, fields := r.Message, map[string]string{"SYSLOG_IDENTIFIER": "b9"}
	add := func(a slog.Attr) bool {
		fields["B9_"+strings.ToUpper(a.Key)] = a.Value.String()
		text += " " + a.Key + "=" + a.Value.String()
		return true
	}
	for _, a := range j.with {
		add(a)
	}
	r.Attrs(add)
	priority := journal.PriDebug
	switch {
	case r.Level >= slog.LevelError:
		priority = journal.PriErr
	case r.Level >= slog.LevelWarn:
		priority = journal.PriWarning
	case r.Level >= slog.LevelInfo:
		priority = journal.PriInfo
	}
	if err := journal.Send(text, priority, fields); err != nil {
		j.to.fail(err)
	}
	return nil
}
