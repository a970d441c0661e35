// Package inspect holds the commands that describe the workspace, the language, the
// configuration and this machine: query, builtins, config, doctor and version. They
// build nothing and change nothing.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/query"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
)

// Query is `b9 query`, with the commands below it.
func Query(p *session.Program) *cobra.Command {
	q := question{}
	ask := func(pick func(*lang.Graph) []*lang.Target) func(*cobra.Command, []string) error {
		return p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return q.ask(ctx, s, args, pick)
		}, q.check)
	}
	cmd := &cobra.Command{
		Use:  "query [EXPRESSION | PATTERN...]",
		Args: cobra.ArbitraryArgs,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			if query.IsExpression(args) {
				return q.express(ctx, s, strings.Join(args, " "))
			}
			return q.ask(ctx, s, args, func(g *lang.Graph) []*lang.Target { return g.Targets })
		}, q.check),
	}
	q.flags(cmd.PersistentFlags())
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
			}, q.check),
		},
		&cobra.Command{
			Use:  "kind BUILTIN [PATTERN...]",
			Args: command.AtLeast(1, "name a built-in, such as lxc_exec (`b9 builtins` lists them)"),
			RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
				if err := checkBuiltin(args[0]); err != nil {
					return err
				}
				return q.ask(ctx, s, args[1:], func(g *lang.Graph) []*lang.Target { return ofKind(g, args[0]) })
			}, q.check),
		},
		&cobra.Command{
			Use:  "options [PATTERN...]",
			Args: cobra.ArbitraryArgs,
			RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error { return q.listOptions(ctx, s, args) }, q.check),
		},
	)
	return cmd
}

// question is how the targets are asked for, and printed.
type question struct {
	options   []string
	output    string
	keepGoing bool
	certain   int // so many of the patterns name what has to be without mistakes
}

func (q *question) flags(to *pflag.FlagSet) {
	command.Define(to, &q.options)
	to.StringVar(&q.output, "output", "table", "print the targets as `FORM`: "+strings.Join(forms[:], ", "))
	to.BoolVarP(&q.keepGoing, "keep-going", "k", false, "in spite of mistakes, list what none of them concerns")
}

// forms are the values of --output.
var forms = [...]string{"table", "label", "label_kind", "location", "graph", "json"}

func (q *question) check(*config.Config) error {
	return command.Choice("output", q.output, forms[:])
}

func (q *question) evaluation() session.Evaluation {
	return session.Evaluation{Options: q.options, ReadOnly: true, Query: true}
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

// goesOn reports whether what no mistake concerns is listed in spite of it.
func (q *question) goesOn(s *session.Session) bool { return q.keepGoing || s.Config.Build.KeepGoing }

// graph is what the patterns name, and beside it the mistakes that it is there in spite of.
func (q *question) graph(ctx context.Context, s *session.Session, patterns []string) (g *lang.Graph, mistakes, err error) {
	e := q.evaluation()
	if !q.goesOn(s) {
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
	return q.print(s, pick(g), mistakes)
}

// express prints the targets that an expression stands for.
func (q *question) express(ctx context.Context, s *session.Session, text string) error {
	e, err := query.Parse(text)
	if err != nil {
		return exit.Usagef("query: %w", err)
	}
	asked := q.evaluation()
	asked.Keep = true
	ws, err := s.Workspace(ctx, asked)
	if err != nil {
		return err
	}
	var mistakes error // each time all so far
	list, err := query.Eval(e, query.World{
		Targets: func(pattern string) ([]*lang.Target, error) {
			resolve := ws.Resolve
			if q.goesOn(s) {
				resolve = ws.ResolveUsable
			}
			g, err := resolve(ctx, []string{pattern})
			if g == nil {
				return nil, err
			}
			mistakes = err
			return g.Targets, nil
		},
		Path: func(name string) (string, error) { return below(s, name) },
	})
	if err != nil {
		return err
	}
	return q.print(s, list, mistakes)
}

// print prints targets in the form that is asked for.
func (q *question) print(s *session.Session, targets []*lang.Target, mistakes error) error {
	if s.JSON || q.output == "json" {
		return errors.Join(s.Print(document(targets, mistakes)), mistakes)
	}
	_, err := io.WriteString(s.Out, q.text(targets))
	return errors.Join(err, mistakes)
}

func document(targets []*lang.Target, mistakes error) output.Targets {
	rows := make([]output.Target, len(targets))
	for i, t := range targets {
		rows[i] = output.Target{Label: t.Title, Builtin: t.Builtin, Place: output.PlaceOf(t.Position), Doc: t.Doc, Tags: t.Tags()}
	}
	doc := output.Targets{Targets: rows}
	if mistakes != nil {
		doc.Error, doc.Errors = mistakes.Error(), output.Failures(mistakes)
	}
	return doc
}

func (q *question) text(targets []*lang.Target) string {
	var text strings.Builder
	width := 0
	for _, t := range targets {
		width = max(width, len(t.Title))
	}
	if q.output == "graph" {
		return query.Dot(targets)
	}
	for _, t := range targets {
		switch q.output {
		case "label":
			fmt.Fprintln(&text, t.Title)
		case "label_kind":
			fmt.Fprintln(&text, query.Kind(t), t.Title)
		case "location":
			fmt.Fprintf(&text, "%s: %s %s\n", query.Location(t), query.Kind(t), t.Title)
		default:
			fmt.Fprintf(&text, "%-*s  %-10s  %s\n", width, t.Title, t.Builtin, firstLine(t.Doc))
		}
	}
	return text.String()
}

// listOptions prints the options that the build files declare which the patterns need.
func (q *question) listOptions(ctx context.Context, s *session.Session, patterns []string) error {
	ws, _, err := s.Graph(ctx, q.evaluation(), orAll(patterns)...)
	if err != nil {
		return err
	}
	doc := output.Options{Options: []output.Option{}}
	var rows [][]string
	for _, o := range ws.Options() {
		doc.Options = append(doc.Options, output.Option{Name: o.Name, Type: o.Type, Default: o.Default, Help: o.Help, Choices: o.Choices, Place: output.PlaceOf(o.Position)})
		kind := o.Type
		if o.Choices != nil {
			kind = strings.Join(o.Choices, "|")
		}
		rows = append(rows, []string{o.Name + "=" + o.Default, kind, o.Position.String(), o.Help})
	}
	return s.Show(doc, output.Table(rows))
}

// below is the path of a file below the root of the workspace, with slashes: of one that
// begins with // as it is, else seen from the working directory.
func below(s *session.Session, name string) (string, error) {
	if rest, ok := strings.CutPrefix(name, "//"); ok {
		return path.Clean(strings.Replace(rest, ":", "/", 1)), nil
	}
	full := name
	if !filepath.IsAbs(full) {
		full = filepath.Join(s.Dir, name)
	}
	rel, err := filepath.Rel(s.Root, full)
	if err != nil || !filepath.IsLocal(rel) {
		return "", exit.Usagef("owner(%s): it lies outside the workspace", name)
	}
	return filepath.ToSlash(rel), nil
}
