package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/config"
	"b9/engine/repo"
)

func (a *app) repoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repo",
		Short: "Add, remove, list and check repositories of shared images",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.repoAddCommand(), a.repoRemoveCommand(), a.repoListCommand(), a.repoCheckCommand())
	return cmd
}

func (a *app) repoAddCommand() *cobra.Command {
	var create bool
	cmd := &cobra.Command{
		Use:   "add NAME LOCATION",
		Short: "Give a repository a name, in the user's configuration",
		Long: `Give a repository a name, in ~/.config/b9/config.toml. LOCATION is a directory, or
one on a plain OpenSSH server: ssh://[user@]host[:port]/path or [user@]host:path.
~/.ssh/config, known_hosts and the agent count as they do for ssh. The only
repository is the one that commands mean when they name none; with several that
is shared.repository of the configuration.`,
		Example: "  b9 repo add team ssh://images@host.example/srv/b9\n  b9 repo add --create lab /mnt/images",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return exit.Usagef("repo add takes a name and a location, got %s", output.Count(len(args), "argument", "arguments"))
			}
			return a.repoAdd(cmd.Context(), args[0], args[1], create)
		},
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the repository where there is none")
	return cmd
}

func (a *app) repoAdd(ctx context.Context, name, location string, create bool) error {
	if err := config.CheckRepositoryName(name); err != nil {
		return exit.Usage(err)
	}
	loc, err := repo.ParseLocation(location)
	if err != nil {
		return exit.Usage(err)
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if have, err := repo.ParseLocation(cfg.Repositories[name]); cfg.Repositories[name] != "" && (err != nil || have != loc) {
		return exit.Usagef("%q is %s already (%s): take another name, or run `b9 repo remove %s` first", name, cfg.Repositories[name], repositoryOrigin(name, cfg), name)
	}
	open := repo.Open
	if create {
		open = repo.Create
	}
	r, err := open(ctx, loc, repo.Options{SSH: a.sshOptions()})
	if err != nil {
		return err
	}
	if err := errors.Join(r.Close(), editRepositories(name, loc.String())); err != nil {
		return err
	}
	a.tellDefault(name, cfg)
	return nil
}

// tellDefault says that with another repository none is the default any more.
func (a *app) tellDefault(added string, cfg *config.Config) {
	was := cfg.DefaultRepository()
	if a.quiet || was == config.LocalRepository || cfg.Shared.Repository != "" || cfg.Repositories[added] != "" {
		return
	}
	fmt.Fprintf(a.stderr, "no repository is the default any more, %s was: give -r %s or -r %s, or set shared.repository in b9.toml\n", was, was, added)
}

// repositoryOrigin says what sets a repository.
func repositoryOrigin(name string, cfg *config.Config) string {
	for _, s := range cfg.Settings() {
		if s.Key == config.RepositoryKey(name) {
			return s.Origin
		}
	}
	return ""
}

func (a *app) repoRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget a repository's name; the repository stays as it is",
		Example: "  b9 repo remove team",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit.Usagef("repo remove takes one name, got %d", len(args))
			}
			cfg, err := a.config()
			if err != nil {
				return err
			}
			return removeRepository(args[0], cfg)
		},
	}
}

func removeRepository(name string, cfg *config.Config) error {
	if name == config.LocalRepository {
		return exit.Usagef("%q is what this machine has, which has no name to forget (`b9 clean-local` removes old versions)", name)
	}
	if cfg.Repositories[name] == "" {
		return unknownRepository(name, cfg)
	}
	if err := unused(name, cfg); err != nil {
		return err
	}
	err := editRepositories(name, "")
	if errors.Is(err, config.ErrNotSet) {
		return fmt.Errorf("repository %q is set by %s: take it out there", name, repositoryOrigin(name, cfg))
	}
	return err
}

// unused says which setting names a repository, for without it the
// configuration would be wrong.
func unused(name string, cfg *config.Config) error {
	for _, s := range cfg.Settings() {
		if (s.Key == "shared.repository" || s.Key == "shared.cache") && s.Value == name {
			return exit.Usagef("%s names %q (%s): change that first", s.Key, name, s.Origin)
		}
	}
	return nil
}

// editRepositories sets, or with "" takes out, a repository in the user's file.
func editRepositories(name, location string) error {
	path := config.UserFile()
	if path == "" {
		return errors.New("there is no home directory to keep the configuration in: set HOME")
	}
	return config.EditRepository(path, name, location)
}

func (a *app) repoListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the repositories that have a name",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			var list []output.Repository
			for _, name := range append([]string{config.LocalRepository}, slices.Sorted(maps.Keys(cfg.Repositories))...) {
				loc, err := a.location(name)
				if err != nil {
					return err
				}
				list = append(list, output.Repository{Name: name, Location: loc.String(), Default: name == cfg.DefaultRepository(), Cache: name == cfg.Shared.Cache})
			}
			if a.json {
				return a.print(output.Repositories{Repositories: list})
			}
			rows := [][]string{{"NAME", "DEFAULT", "LOCATION"}}
			for _, r := range list {
				mark := ""
				if r.Default {
					mark = "yes"
				}
				rows = append(rows, []string{r.Name, mark, r.Location})
			}
			return output.Table(a.stdout, rows)
		},
	}
}
