package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// Affected is `b9 affected`.
func Affected(p *session.Program) *cobra.Command {
	var q question
	var since string
	cmd := &cobra.Command{
		Use:  "affected [PATTERN...]",
		Args: cobra.ArbitraryArgs,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			if since == "" {
				return exit.Usagef("affected: give a revision to compare with, such as --since origin/main")
			}
			return affected(ctx, s, &q, since, args)
		}, q.check),
	}
	cmd.Flags().StringVar(&since, "since", "", "compare with the `REVISION`, such as origin/main or HEAD~3")
	q.flags(cmd.Flags())
	return cmd
}

// affected prints the targets that a change touches: those that there were not, or whose
// step, or one that it needs, is another one now.
func affected(ctx context.Context, s *session.Session, q *question, since string, patterns []string) (err error) {
	patterns = orAll(patterns)
	g, mistakes, err := q.graph(ctx, s, patterns)
	if err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	scratch, err := st.Scratch("affected")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	to, err := filepath.EvalSymlinks(scratch.Dir())
	if err != nil {
		return err
	}
	r, err := checkOut(ctx, s.Root, since, to, []string{s.Config.Store.Dir, s.ResultsDir()})
	if err != nil {
		return err
	}
	before, err := r.shapesBefore(ctx, s, q, patterns)
	if err != nil {
		return err
	}
	now := r.shapes(ctx, r.top)
	var list []*lang.Target
	for _, t := range g.Targets {
		shape, err := targetShape(now, t)
		if err != nil {
			return err
		}
		if was, ok := before[t.Title]; !ok || was != shape {
			list = append(list, t)
		}
	}
	return q.print(s, list, mistakes)
}

// shapesBefore are the shapes that the targets had, by title; of what did not exist, or
// had mistakes, there is none.
func (r *revision) shapesBefore(ctx context.Context, s *session.Session, q *question, patterns []string) (map[string]string, error) {
	root, err := filepath.EvalSymlinks(s.Root)
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(r.top, root)
	if err != nil {
		return nil, err
	}
	root = filepath.Join(r.old, rel)
	if _, err := os.Stat(filepath.Join(root, lang.RootFile)); err != nil {
		return nil, nil // there was no workspace
	}
	old, err := s.Elsewhere(root, q.options)
	if err != nil {
		s.Console.Warn("the configuration had mistakes then, so that every target counts as affected: %s", firstLine(err.Error()))
		return nil, nil
	}
	e := q.evaluation()
	e.Options, e.Stderr = nil, io.Discard
	ws, err := old.Workspace(ctx, e)
	if err != nil {
		return nil, err
	}
	then := r.shapes(ctx, r.old)
	shapes := map[string]string{}
	for _, pattern := range patterns { // each for itself: one may name what did not exist
		g, _ := ws.ResolveUsable(ctx, []string{pattern})
		if g == nil {
			continue
		}
		for _, t := range g.Targets {
			if shapes[t.Title], err = targetShape(then, t); err != nil {
				return nil, err
			}
		}
	}
	return shapes, ctx.Err()
}

// shapes are those of a graph of the tree at root.
func (r *revision) shapes(ctx context.Context, root string) *engine.Shapes {
	s := &engine.Shapes{Source: func(a engine.Action) (string, bool, error) {
		switch a := a.(type) {
		case *engine.FileSource:
			shape, err := r.source(root, a.Path, nil)
			return shape, true, err
		case *engine.TreeSource:
			shape, err := r.source(root, a.Path, a.Excludes)
			return shape, true, err
		}
		shape, ok := share.Meant(ctx, a)
		return shape, ok, nil
	}}
	if root != r.top {
		s.From, s.To = root, r.top
	}
	return s
}

// targetShape is the shape of all that a target stands for.
func targetShape(s *engine.Shapes, t *lang.Target) (string, error) {
	shapes := make([]string, 0, len(t.Refs))
	for _, ref := range t.Refs {
		d, err := s.Of(ref.Node)
		if err != nil {
			return "", err
		}
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			return "", err
		}
		shapes = append(shapes, fmt.Sprintf("%s %s %o %s", d, ref.Output, out.Mode, out.Ext))
	}
	return strings.Join(shapes, "\n"), nil
}
