package repository

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/repo"
)

// Push is `b9 push`.
func Push(p *session.Program) *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "push NAME[@VERSION]",
		Short: "Send a shared image of this machine to a repository",
		Long: `Send the newest version of a shared image that this machine has, or the one
named, to a repository. share() in a build file makes one. Only data that the
repository lacks is sent, and an interrupted push goes on where it stopped.`,
		Example: "  b9 push debian\n  b9 push debian@20260102-150405-1a2b3c4d -r team",
		Args:    command.Exactly(1, "push takes one name, got %d (`b9 list -r local` lists them)"),
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			return exit.Resumes(push(ctx, s, to, args[0]), "what was sent is kept for the next push")
		}),
	}
	nameFlag(cmd, &to)
	return cmd
}

// push sends a version that this machine has.
func push(ctx context.Context, s *session.Session, to, name string) (err error) {
	local, err := s.Repositories().Local()
	if err != nil {
		return err
	}
	wanted, err := chosen(ctx, local, []string{name})
	if err != nil {
		return s.Repositories().Explain(name, err)
	}
	r, err := s.Repositories().Open(ctx, to, transferLine(s, "send"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v := wanted[0]
	if have, err := r.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version}); err == nil && have.Digest == v.Digest {
		tellUnchanged(s, v, "the repository has it")
		return printVersions(s, []repo.Version{have})
	} else if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	path, err := local.Path(v)
	if err != nil {
		return err
	}
	pushed, t, err := r.Push(ctx, share.PushSpec(v, path))
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: make room there, for example with `b9 clean-remote -r %s`", err, display.ShellWord(cmp.Or(to, s.Config.DefaultRepository())))
	}
	if err != nil {
		return unfinished(t, err)
	}
	tellTransfer(s, "sent", pushed, t)
	return printVersions(s, []repo.Version{pushed})
}
