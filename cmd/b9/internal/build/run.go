package build

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
)

// Run is `b9 run`.
func Run(p *session.Program) *cobra.Command {
	var f Flags
	var cwd string
	cmd := &cobra.Command{
		Use:   "run TARGET [-- COMMAND ARG...]",
		Short: "Build a target and run a command in it",
		Long: `Build a target, then run the command, or an interactive shell when on a
terminal, in the built image. The image is a throw-away copy: what the command
changes is gone afterwards. The current directory is mounted at /mnt/CWD,
writable. A target with nothing to run in is just built. The exit status is the
command's own; 127 when it is not in the image, 126 when it can't be executed.
shared:NAME and shared:NAME@VERSION stand for a shared image.`,
		Example: "  b9 run //web:root -- nginx -t\n  b9 run //toolchain:i386 -- make -C /mnt/CWD\n  b9 run shared:debian -- apt list --installed",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, argv := command.SplitDash(cmd, args)
			if len(targets) != 1 {
				return exit.Usagef("run takes one target, then `--` and the command, got %d targets", len(targets))
			}
			return p.With(func(ctx context.Context, s *session.Session, targets []string) error {
				return run(ctx, s, f, targets[0], argv, cwd)
			}, f.Configure)(cmd, targets)
		},
	}
	f.Register(cmd)
	cmd.Flags().StringVar(&cwd, "cwd", cwdMount, "start the command in `DIR` of the image")
	return cmd
}

func run(ctx context.Context, s *session.Session, f Flags, target string, argv []string, cwd string) error {
	r := Request{Flags: f, Patterns: []string{target}, Backing: true, Results: s.Out}
	if len(argv) > 0 {
		// The results are the command's own output then.
		r.One, r.Results = true, aside(s.Quiet, s.Console)
	}
	b, err := Do(ctx, s, r)
	if err != nil {
		return err
	}
	t := b.Graph.Targets[0]
	if len(argv) == 0 && !display.IsTerminal(s.In) {
		tellDoc(s, t)
		return nil
	}
	err = enterTarget(ctx, s, b, argv, cwd)
	if errors.Is(err, errNotEnterable) && len(argv) == 0 {
		tellDoc(s, t)
		return nil
	}
	return err
}

// tellDoc prints what the build file says about a target, for people.
func tellDoc(s *session.Session, t *lang.Target) {
	if t.Doc != "" && !s.JSON {
		s.Tell("\n%s", t.Doc)
	}
}
