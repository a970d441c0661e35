// Package inspect holds the commands that tell about the workspace, the language,
// the configuration and this machine, and change nothing: query, builtins, config,
// doctor, version.
package inspect

import (
	"context"
	"fmt"
	"slices"

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
	var options []string
	cmd := &cobra.Command{
		Use:   "query [PATTERN...]",
		Short: "List targets, and what depends on what",
		Long: `List the targets that the patterns name (default //...), one a line: label, the
built-in that makes it, and its documentation. The commands below ask about the
graph. Nothing is built.`,
		Example: "  b9 query\n  b9 query deps //web:disk\n  b9 query rdeps //base:root\n  b9 query kind lxc_exec //web/...",
		RunE: func(cmd *cobra.Command, args []string) error {
			return query(cmd.Context(), p, options, args, func(g *lang.Graph) []*lang.Target { return g.Targets })
		},
	}
	command.Define(cmd.PersistentFlags(), &options)
	cmd.AddCommand(
		&cobra.Command{
			Use: "deps TARGET...", Short: "List every target and source that the targets are made of",
			Args: command.SomeTargets,
			RunE: func(cmd *cobra.Command, args []string) error {
				return query(cmd.Context(), p, options, args, func(g *lang.Graph) []*lang.Target { return g.Deps(g.Targets...) })
			},
		},
		&cobra.Command{
			Use: "rdeps TARGET [PATTERN...]", Short: "List the targets in the patterns (default //...) that are made of the target",
			Args: command.SomeTargets,
			RunE: func(cmd *cobra.Command, args []string) error {
				// The target comes first, so that it is the first of the graph's.
				patterns := append([]string{args[0]}, orAll(args[1:])...)
				return query(cmd.Context(), p, options, patterns, func(g *lang.Graph) []*lang.Target { return g.Rdeps(g.Targets[0]) })
			},
		},
		&cobra.Command{
			Use: "kind BUILTIN [PATTERN...]", Short: "List the targets that a built-in makes",
			RunE: func(cmd *cobra.Command, args []string) error {
				if len(args) == 0 {
					return exit.Usagef("name a built-in, such as lxc_exec (`b9 builtins` lists them)")
				}
				if err := checkBuiltin(args[0]); err != nil {
					return err
				}
				return query(cmd.Context(), p, options, orAll(args[1:]), func(g *lang.Graph) []*lang.Target { return ofKind(g, args[0]) })
			},
		},
	)
	return cmd
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

func query(ctx context.Context, p *session.Program, options, patterns []string, pick func(*lang.Graph) []*lang.Target) error {
	s, err := p.Open()
	if err != nil {
		return err
	}
	defer s.Close()
	ws, err := s.Workspace(ctx, session.Evaluation{Options: options})
	if err != nil {
		return err
	}
	g, err := ws.Resolve(ctx, orAll(patterns))
	if err != nil {
		return err
	}
	return printTargets(p, pick(g))
}

func printTargets(p *session.Program, targets []*lang.Target) error {
	rows := make([]output.Target, len(targets))
	width := 0
	for i, t := range targets {
		rows[i] = output.Target{Label: t.Title, Builtin: t.Builtin, Place: output.PlaceOf(t.Position), Doc: t.Doc}
		width = max(width, len(rows[i].Label))
	}
	if p.JSON {
		return p.Print(output.Targets{Targets: rows})
	}
	for _, r := range rows {
		if _, err := fmt.Fprintf(p.Out, "%-*s  %-10s  %s\n", width, r.Label, r.Builtin, firstLine(r.Doc)); err != nil {
			return err
		}
	}
	return nil
}
