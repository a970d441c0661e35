package repository

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
)

// Update is `b9 update`.
func Update(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "update [NAME]",
		Short: "Move b9.lock to the newest versions of shared images",
		Long: `Ask the repositories for the newest versions of the shared images in b9.lock, or
of the one named, and write them there. Entries for a version or digest that a
build file names stay. Nothing is fetched: the next build does that.`,
		Example: "  b9 update\n  b9 update debian",
		Args:    command.OneAtMost("name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := p.Open()
			if err != nil {
				return err
			}
			defer s.Close()
			return update(cmd.Context(), s, command.First(args))
		},
	}
}

func update(ctx context.Context, s *session.Session, name string) error {
	if err := repo.ValidName(name); name != "" && err != nil {
		return exit.Usage(err)
	}
	ws, err := s.Workspace(ctx, session.Evaluation{})
	if err != nil {
		return err
	}
	before, after, err := ws.Shared.Update(ctx, name)
	if err != nil {
		return err
	}
	if s.JSON {
		if after == nil {
			after = []share.Locked{}
		}
		return s.Print(output.Lock{Images: after})
	}
	if len(after) == 0 && !s.Quiet {
		fmt.Fprintf(s.Console, "nothing to move: %s has no newest version of a shared image (a build that uses one adds it)\n", share.LockFile)
	}
	for i, l := range after {
		state := "is the newest"
		if l != before[i] {
			state = "was " + before[i].Version
		}
		fmt.Fprintf(s.Out, "%s\t%s\n", l, state)
	}
	return nil
}
