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
	return &cobra.Command{Use: "update [NAME]", Args: command.OneAtMost("name"), RunE: p.With(update)}
}

func update(ctx context.Context, s *session.Session, args []string) error {
	name := command.First(args)
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
	if len(after) == 0 && !s.JSON {
		s.Tell("nothing to move: %s has no newest version of a shared image (a build that uses one adds it)", share.LockFile)
	}
	var text []byte
	for i, l := range after {
		state := "is the newest"
		if l != before[i] {
			state = "was " + before[i].Version
		}
		text = fmt.Appendf(text, "%s\t%s\n", l, state)
	}
	return s.Show(output.Lock{Images: output.List(after)}, string(text))
}
