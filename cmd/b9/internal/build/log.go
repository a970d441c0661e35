package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// Log is `b9 log`.
func Log(p *session.Program) *cobra.Command {
	var options []string
	var follows bool
	cmd := &cobra.Command{
		Use:  "log [BUILD] [TARGET]",
		Args: logArgs,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			if len(args) != 1 || history.IsID(args[0]) {
				if follows {
					return exit.Usagef("log -f follows a step: name its target, and no build")
				}
				return logOfBuild(s, args)
			}
			if p.JSON {
				return exit.Usagef("the log of a step is text: leave out --json")
			}
			found, err := logOf(ctx, s, options, args[0])
			if err != nil {
				return err
			}
			f, err := os.Open(found.path)
			if err != nil {
				return err
			}
			if follows && found.running != "" {
				return errors.Join(found.follow(ctx, s.Out, f), f.Close())
			}
			_, err = io.Copy(s.Out, f)
			return errors.Join(err, f.Close())
		}),
	}
	cmd.Flags().BoolVarP(&follows, "follow", "f", false, "of a step that runs, print on until it ends")
	command.Define(cmd.Flags(), &options)
	return cmd
}

// logArgs wants nothing, a build, a target, or a target after a build.
func logArgs(_ *cobra.Command, args []string) error {
	switch {
	case len(args) > 2:
		return exit.Usagef("log takes a build and a target, got %d arguments", len(args))
	case len(args) == 2 && !history.IsID(args[0]):
		return exit.Usagef("log takes one target, behind a build where there are two arguments: %s is no build (`b9 builds` lists them)", args[0])
	}
	return nil
}

// foundLog is the log of a step.
type foundLog struct {
	store   *store.Store
	path    string
	running string // the name of the step, of one that runs now
}

// followInterval is the time between two looks at a log that grows.
const followInterval = 100 * time.Millisecond

// follow prints the log, and what is written to it until the step ends.
func (l *foundLog) follow(ctx context.Context, w io.Writer, f *os.File) error {
	for {
		path, err := engine.Running(l.store, l.running)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, f); err != nil || path != l.path {
			return err
		}
		select {
		case <-time.After(followInterval):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// logOf finds the log of a step of a target that runs, else of its kept failure, else of
// its newest record.
func logOf(ctx context.Context, s *session.Session, options []string, target string) (*foundLog, error) {
	ws, g, err := s.Graph(ctx, session.Evaluation{Options: options}, target)
	if err != nil {
		return nil, err
	}
	st, err := s.Store()
	if err != nil {
		return nil, err
	}
	kept, err := st.Failed()
	if err != nil {
		return nil, err
	}
	for _, t := range g.Targets {
		name := engine.StepName(t.Title, ws.Root())
		if path, err := engine.Running(st, name); err != nil || path != "" {
			return &foundLog{st, path, name}, err
		}
		path, err := stepLog(st, kept, name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", target, err)
		}
		if path != "" {
			return &foundLog{st, path, ""}, nil
		}
	}
	return nil, fmt.Errorf("%s: no step of it ran yet that printed something", target)
}

// stepLog is the path of the log of the step called name; "" when there is none.
func stepLog(st *store.Store, kept []store.FailedStep, name string) (string, error) {
	for _, k := range kept {
		if k.Name == name {
			return engine.Log(k), nil
		}
	}
	r, err := st.Latest(name)
	switch {
	case err != nil || r == nil || r.Log == nil:
		return "", err
	case !st.Has(*r.Log):
		return "", errors.New("its log is not on this machine: it was collected, or the step is only known from the step cache")
	}
	return st.Path(r.Log.Digest), nil
}
