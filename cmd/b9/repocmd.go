package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

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
~/.ssh/config, known_hosts and the agent count as they do for ssh.`,
		Example: "  b9 repo add team ssh://images@host.example/srv/b9\n  b9 repo add --create lab /mnt/images",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("repo add takes a name and a location, got %d arguments", len(args))
			}
			return a.repoAdd(cmd.Context(), args[0], args[1], create)
		},
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the repository where there is none")
	return cmd
}

func (a *app) repoAdd(ctx context.Context, name, location string, create bool) error {
	if err := config.CheckRepositoryName(name); err != nil {
		return usageError{err}
	}
	loc, err := repo.ParseLocation(location)
	if err != nil {
		return usageError{err}
	}
	open := repo.Open
	if create {
		open = repo.Create
	}
	r, err := open(ctx, loc, repo.Options{SSH: a.sshOptions()})
	if err != nil {
		return err
	}
	return errors.Join(r.Close(), editRepositories(name, loc.String()))
}

func (a *app) repoRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget a repository's name; the repository stays as it is",
		Example: "  b9 repo remove team",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("repo remove takes one name, got %d", len(args))
			}
			cfg, err := a.config()
			if err != nil {
				return err
			}
			if _, ok := cfg.Repositories[args[0]]; !ok {
				return unknownRepository(args[0], cfg)
			}
			if err := unused(args[0], cfg); err != nil {
				return err
			}
			return editRepositories(args[0], "")
		},
	}
}

// unused says which setting names a repository, for without it the
// configuration would be wrong.
func unused(name string, cfg *config.Config) error {
	for _, s := range cfg.Settings() {
		if (s.Key == "shared.repository" || s.Key == "shared.cache") && s.Value == name {
			return usagef("%s names %q (%s): change that first", s.Key, name, s.Origin)
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
	err := config.EditRepository(path, name, location)
	if errors.Is(err, config.ErrNotSet) {
		return fmt.Errorf("%w: `b9 config` shows what does", err)
	}
	return err
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
			type row struct {
				Name     string `json:"name"`
				Location string `json:"location"`
				Default  bool   `json:"default"`
				Cache    bool   `json:"cache"`
			}
			var list []row
			for _, name := range append([]string{config.LocalRepository}, slices.Sorted(maps.Keys(cfg.Repositories))...) {
				loc, err := a.location(name)
				if err != nil {
					return err
				}
				list = append(list, row{name, loc.String(), name == cfg.DefaultRepository(), name == cfg.Shared.Cache})
			}
			if a.json {
				return printJSON(a.stdout, list)
			}
			rows := [][]string{{"NAME", "DEFAULT", "LOCATION"}}
			for _, r := range list {
				mark := ""
				if r.Default {
					mark = "yes"
				}
				rows = append(rows, []string{r.Name, mark, r.Location})
			}
			return printTable(a.stdout, rows)
		},
	}
}
