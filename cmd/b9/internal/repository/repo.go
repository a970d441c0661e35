package repository

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
)

// Command is `b9 repo`, with the commands below it.
func Command(p *session.Program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Add, remove, list and check repositories of shared images",
		Args:  command.NoArgs,
		RunE:  command.Help,
	}
	cmd.AddCommand(add(p), remove(p), names(p), check(p))
	return cmd
}

// names is `b9 repo list`.
func names(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the repositories that have a name",
		Args:  command.NoArgs,
		RunE: p.With(func(_ context.Context, s *session.Session, _ []string) error {
			cfg := s.Config
			var list []output.Repository
			for _, name := range append([]string{config.LocalRepository}, slices.Sorted(maps.Keys(cfg.Repositories))...) {
				loc, err := s.Repositories().Location(name)
				if err != nil {
					return err
				}
				list = append(list, output.Repository{Name: name, Location: loc.String(), Default: name == cfg.DefaultRepository(), Cache: name == cfg.Shared.Cache})
			}
			rows := [][]string{{"NAME", "DEFAULT", "LOCATION"}}
			for _, r := range list {
				mark := ""
				if r.Default {
					mark = "yes"
				}
				rows = append(rows, []string{r.Name, mark, r.Location})
			}
			return s.Show(output.Repositories{Repositories: list}, output.Table(rows))
		}),
	}
}
