package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/repo"
)

// Command is `b9 repo`, with the commands below it.
func Command(p *session.Program) *cobra.Command {
	cmd := &cobra.Command{Use: "repo"}
	cmd.AddCommand(add(p), remove(p), names(p), check(p))
	return cmd
}

// names is `b9 repo list`.
func names(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use: "list",
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

// add is `b9 repo add`.
func add(p *session.Program) *cobra.Command {
	var create bool
	cmd := &cobra.Command{
		Use: "add NAME LOCATION",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return exit.Usagef("repo add takes a name and a location, got %s", output.Count(len(args), "argument", "arguments"))
			}
			return nil
		},
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return addRepository(ctx, s, args[0], args[1], create)
		}),
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the repository where there is none")
	return cmd
}

func addRepository(ctx context.Context, s *session.Session, name, location string, create bool) error {
	if err := config.CheckRepositoryName(name); err != nil {
		return exit.Usage(err)
	}
	loc, err := repo.ParseLocation(location)
	if err != nil {
		return exit.Usage(err)
	}
	cfg := s.Config
	if have, err := repo.ParseLocation(cfg.Repositories[name]); cfg.Repositories[name] != "" && (err != nil || have != loc) {
		return exit.Usagef("%q is %s already (%s): take another name, or run `b9 repo remove %s` first", name, cfg.Repositories[name], session.RepositoryOrigin(name, cfg), name)
	}
	open := repo.Open
	if create {
		open = repo.Create
	}
	r, err := open(ctx, loc, repo.Options{SSH: s.Repositories().SSH(), Waiting: s.WaitsFor("it writes to the repository")})
	if err != nil {
		return err
	}
	if err := errors.Join(r.Close(), editRepositories(ctx, s, name, loc.String())); err != nil {
		return err
	}
	tellDefault(s, name)
	return nil
}

// tellDefault says that with another repository none is the default any more.
func tellDefault(s *session.Session, added string) {
	cfg := s.Config
	was := cfg.DefaultRepository()
	if was == config.LocalRepository || cfg.Shared.Repository != "" || cfg.Repositories[added] != "" {
		return
	}
	s.Tell("no repository is the default any more, %s was: give -r %s or -r %s, or set shared.repository in b9.toml", was, was, added)
}

// editRepositories sets a repository in the user's file; the location "" removes it.
func editRepositories(ctx context.Context, s *session.Session, name, location string) error {
	path := config.UserFile()
	if path == "" {
		return errors.New("there is no home directory to keep the configuration in: set HOME")
	}
	return config.EditRepository(ctx, path, name, location, s.WaitsFor("it edits "+path))
}

// remove is `b9 repo remove`.
func remove(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:  "remove NAME",
		Args: command.Exactly(1, "repo remove takes one name, got %d"),
		RunE: p.With(removeRepository),
	}
}

func removeRepository(ctx context.Context, s *session.Session, args []string) error {
	name, cfg := args[0], s.Config
	if name == config.LocalRepository {
		return exit.Usagef("%q is what this machine has, which has no name to forget (`b9 clean-local` removes old versions)", name)
	}
	if cfg.Repositories[name] == "" {
		return s.Repositories().Unknown(name)
	}
	if err := unused(name, cfg); err != nil {
		return err
	}
	err := editRepositories(ctx, s, name, "")
	if errors.Is(err, config.ErrNotSet) {
		return fmt.Errorf("repository %q is set by %s: take it out there", name, session.RepositoryOrigin(name, cfg))
	}
	return err
}

// unused says which setting names a repository, for without it the
// configuration would be wrong.
func unused(name string, cfg *config.Config) error {
	for _, set := range cfg.Settings() {
		if (set.Key == "shared.repository" || set.Key == "shared.cache") && set.Value == name {
			return exit.Usagef("%s names %q (%s): change that first", set.Key, name, set.Origin)
		}
	}
	return nil
}
