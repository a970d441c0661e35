// Package upkeep holds the commands that make a workspace, and tidy it and the
// store: init, clean and cache. What may be removed, the store decides.
package upkeep

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/store"
)

// writeNew writes a file unless it is there.
func writeNew(path, text string, mode fs.FileMode) (wrote bool, err error) {
	err = config.WriteNew(path, text, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Clean is `b9 clean`.
func Clean(p *session.Program) *cobra.Command {
	var stale bool
	var options []string
	cmd := &cobra.Command{Use: "clean", RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
		if stale {
			return cleanStale(ctx, s, options)
		}
		if len(options) > 0 {
			return exit.Usagef("clean: -D says what build files make, and without --stale none is read")
		}
		return clean(ctx, s, args)
	})}
	cmd.Flags().BoolVar(&stale, "stale", false, "remove only results whose targets are gone, or have no such result any more")
	command.Define(cmd.Flags(), &options)
	return cmd
}

// cleanStale evaluates every build file, and removes what earlier builds placed and is the
// result of none of the targets. With mistakes in a build file that can't be told.
func cleanStale(ctx context.Context, s *session.Session, options []string) error {
	placed, err := engine.PlacedIn(s.ResultsDir())
	if err != nil || len(placed) == 0 {
		return err
	}
	left, err := leftovers(ctx, s, options, placed)
	if err != nil {
		return err
	}
	which := func(rel string) bool { return left[rel] != 0 }
	if _, err := engine.RemoveSome(ctx, s.ResultsDir(), which, s.WaitsFor("it places results")); err != nil {
		return err
	}
	names := map[string][]store.Object{}
	for _, rel := range slices.Sorted(maps.Keys(left)) {
		s.Tell("removed %s", s.Relative(filepath.Join(s.ResultsDir(), rel)))
		if left[rel] == lang.Gone {
			names[placed[rel].Label] = nil
		}
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	return st.NameResults(s.Root, names)
}

// leftovers tells which results are none any more.
func leftovers(ctx context.Context, s *session.Session, options []string, placed map[string]engine.Placed) (map[string]lang.Leftover, error) {
	ws, err := s.Workspace(ctx, session.Evaluation{Options: options, ReadOnly: true})
	if err != nil {
		return nil, err
	}
	labels := map[string]string{}
	for rel, was := range placed {
		if was.Label != "" {
			labels[rel] = was.Label
		}
	}
	patterns, err := ws.Everything(ctx, slices.Collect(maps.Values(labels)))
	if err != nil {
		return nil, err
	}
	if len(patterns) > 0 {
		if _, err := ws.Resolve(ctx, patterns); err != nil {
			return nil, err
		}
	}
	return ws.Leftovers(labels), nil
}

func clean(ctx context.Context, s *session.Session, _ []string) error {
	root, err := lang.FindRoot(s.Dir)
	if err != nil {
		return err
	}
	if _, err := engine.RemoveResults(ctx, s.ResultsDir(), s.WaitsFor("it places results")); err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	kept, err := st.Failed()
	if err != nil {
		return err
	}
	for _, k := range kept {
		if _, workspace := engine.SplitStepName(k.Name); workspace != root {
			continue
		}
		if err := st.DropFailed(k.Name); err != nil {
			return err
		}
	}
	return errors.Join(st.ForgetResults(root), st.ForgetResults(s.ResultsDir()))
}
