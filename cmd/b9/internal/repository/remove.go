package repository

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
)

// remove is `b9 repo remove`.
func remove(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget a repository's name; the repository stays as it is",
		Example: "  b9 repo remove team",
		Args:    command.Exactly(1, "repo remove takes one name, got %d"),
		RunE:    p.With(removeRepository),
	}
}

func removeRepository(_ context.Context, s *session.Session, args []string) error {
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
	err := editRepositories(name, "")
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
