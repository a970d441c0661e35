package build

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// begun says what is to be built.
func (b *maker) begun() output.Begun {
	return output.Begun{Command: b.Command, Patterns: output.List(b.Patterns), Options: b.options, Workspace: b.Root, Version: session.Version().Version}
}

// begin begins the event log. The error of end is that of the file that --events names.
func (b *maker) begin() (end func(context.Context, error) error, err error) {
	st, err := b.Store()
	if err != nil {
		return nil, err
	}
	file, err := b.eventsFile()
	if err != nil {
		return nil, err
	}
	var also io.Writer
	if file != nil {
		also = file
	}
	b.log = history.In(st.Dir()).Begin(b.begun(), also, b.unlogged)
	return func(ctx context.Context, err error) error {
		err = b.log.End(output.Ending{Executed: b.ran.Executed, Cached: b.ran.Cached, Err: err, Interrupted: ctx.Err() != nil, Took: time.Since(b.started)})
		if file != nil {
			err = errors.Join(err, file.Close())
		}
		return err
	}, nil
}

// unlogged tells that there is no event log. The build goes on.
func (b *maker) unlogged(err error) { b.Console.Warn("the event log of this build: %v", err) }

// unchanged logs a build that had nothing to do.
func (b *maker) unchanged(r *report, started time.Time) error {
	file, err := b.eventsFile()
	if err != nil {
		return err
	}
	dir := history.In(r.store.Dir())
	if file == nil {
		if err := dir.Unchanged(b.begun(), started, r.Cached, nil); err != nil {
			b.unlogged(err)
		}
		return nil
	}
	return errors.Join(dir.Unchanged(b.begun(), started, r.Cached, file), file.Close())
}

// eventsFile makes the file that --events names; nil for none.
func (b *maker) eventsFile() (*os.File, error) {
	if b.events == "" {
		return nil, nil
	}
	path, err := b.Path(b.events)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666&^b.Umask)
	if err != nil {
		return nil, exit.Usagef("--events %s: %w", b.events, err)
	}
	return f, nil
}
