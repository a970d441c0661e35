// Package inspect holds the commands that describe the workspace, the language, the
// configuration and this machine: query, builtins, config, doctor and version. They
// build nothing and change nothing.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// Query is `b9 query`, with the commands below it.
func Query(p *session.Program) *cobra.Command {
	var q question
	ask := func(pick func(*lang.Graph) []*lang.Target) func(*cobra.Command, []string) error {
		return p.With(func(ctx context.Context, s *session.Session, args []string) error {
			if err := notFunction(args); err != nil {
				return err
			}
			return q.ask(ctx, s, args, pick)
		})
	}
	cmd := &cobra.Command{
		Use:  "query [PATTERN...]",
		Args: cobra.ArbitraryArgs,
		RunE: ask(func(g *lang.Graph) []*lang.Target { return g.Targets }),
	}
	command.Define(cmd.PersistentFlags(), &q.options)
	cmd.PersistentFlags().BoolVarP(&q.keepGoing, "keep-going", "k", false, "in spite of mistakes, list what none of them concerns")
	cmd.AddCommand(
		&cobra.Command{
			Use:  "deps TARGET...",
			Args: command.SomeTargets,
			RunE: ask(func(g *lang.Graph) []*lang.Target { return g.Deps(g.Targets...) }),
		},
		&cobra.Command{
			Use:  "rdeps TARGET [PATTERN...]",
			Args: command.SomeTargets,
			RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
				// The target comes first, so that it is the first of the graph's.
				patterns := append([]string{args[0]}, orAll(args[1:])...)
				first := q
				first.certain = 1
				return first.ask(ctx, s, patterns, func(g *lang.Graph) []*lang.Target { return g.Rdeps(g.Targets[0]) })
			}),
		},
		&cobra.Command{
			Use:  "kind BUILTIN [PATTERN...]",
			Args: command.AtLeast(1, "name a built-in, such as lxc_exec (`b9 builtins` lists them)"),
			RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
				if err := checkBuiltin(args[0]); err != nil {
					return err
				}
				return q.ask(ctx, s, args[1:], func(g *lang.Graph) []*lang.Target { return ofKind(g, args[0]) })
			}),
		},
	)
	return cmd
}

// notFunction refuses a question that is written as other build systems write it, and
// says how it is written here.
func notFunction(args []string) error {
	for _, arg := range args {
		name, inner, ok := strings.Cut(arg, "(")
		if ok && strings.HasSuffix(inner, ")") && (name == "deps" || name == "rdeps" || name == "kind") {
			words := strings.FieldsFunc(strings.TrimSuffix(inner, ")"), func(r rune) bool { return r == ',' || r == ' ' })
			if name == "rdeps" && len(words) == 2 { // where to look comes first there
				words[0], words[1] = words[1], words[0]
			}
			return exit.Usagef("query %s: a question is a command of its own: `b9 query %s %s`", arg, name, strings.Join(words, " "))
		}
	}
	return nil
}

// ofKind lists the targets asked for that the built-in makes; of source
// files, which are no targets, those that the targets are made of.
func ofKind(g *lang.Graph, name string) []*lang.Target {
	if name == "source" {
		return g.Kind(name)
	}
	return slices.DeleteFunc(slices.Clone(g.Targets), func(t *lang.Target) bool { return t.Builtin != name })
}

// checkBuiltin refuses the name of a built-in that there is not.
func checkBuiltin(name string) error {
	names := []string{"source"}
	for _, op := range builtins.Operations(builtins.Settings{}) {
		names = append(names, op.Name)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return unknownBuiltin(name, names)
}

func orAll(patterns []string) []string {
	if len(patterns) == 0 {
		return []string{"//..."}
	}
	return patterns
}

// question is how a query is asked.
type question struct {
	options   []string
	keepGoing bool
	certain   int // so many of the patterns name what has to be without mistakes
}

// graph is what the patterns name, and beside it the mistakes that it is there in spite of.
func (q *question) graph(ctx context.Context, s *session.Session, patterns []string) (g *lang.Graph, mistakes, err error) {
	e := session.Evaluation{Options: q.options}
	if !q.keepGoing && !s.Config.Build.KeepGoing {
		_, g, err = s.Graph(ctx, e, patterns...)
		return g, nil, err
	}
	if q.certain > 0 {
		if _, g, err = s.Usable(ctx, e, patterns[:q.certain]...); err != nil && (g == nil || len(g.Targets) == 0) {
			return nil, nil, err
		}
	}
	_, g, mistakes = s.Usable(ctx, e, patterns...)
	if g == nil {
		return nil, nil, mistakes
	}
	return g, mistakes, nil
}

// ask prints those targets of the graph of the patterns that pick returns.
func (q *question) ask(ctx context.Context, s *session.Session, patterns []string, pick func(*lang.Graph) []*lang.Target) error {
	g, mistakes, err := q.graph(ctx, s, orAll(patterns))
	if err != nil {
		return err
	}
	targets := pick(g)
	rows := make([]output.Target, len(targets))
	width := 0
	for i, t := range targets {
		rows[i] = output.Target{Label: t.Title, Builtin: t.Builtin, Place: output.PlaceOf(t.Position), Doc: t.Doc}
		width = max(width, len(rows[i].Label))
	}
	var text []byte
	for _, r := range rows {
		text = fmt.Appendf(text, "%-*s  %-10s  %s\n", width, r.Label, r.Builtin, firstLine(r.Doc))
	}
	doc := output.Targets{Targets: rows}
	if mistakes != nil {
		doc.Error, doc.Errors = mistakes.Error(), output.Failures(mistakes)
	}
	return errors.Join(s.Show(doc, string(text)), mistakes)
}
