package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/engine/container"
)

func (a *app) runCommand() *cobra.Command {
	var f engineFlags
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
			targets, argv := splitDash(cmd, args)
			if len(targets) != 1 {
				return exit.Usagef("run takes one target, then `--` and the command, got %d targets", len(targets))
			}
			return a.runTarget(cmd.Context(), &f, targets[0], argv, cwd)
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&cwd, "cwd", cwdMount, "start the command in `DIR` of the image")
	return cmd
}

// splitDash separates what stands before `--` from what follows it.
func splitDash(cmd *cobra.Command, args []string) (before, after []string) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}

func (a *app) runTarget(ctx context.Context, f *engineFlags, target string, argv []string, cwd string) error {
	// With a command of the user's the results are its own output, so
	// b9's go to standard error.
	b, err := a.buildFor(ctx, f, target, len(argv) > 0)
	if err != nil {
		return err
	}
	t := b.graph.Targets[0]
	if len(argv) == 0 && !isTerminal(a.stdin) {
		a.tellDoc(t)
		return nil
	}
	err = a.enterTarget(ctx, b, t, argv, cwd)
	if errors.Is(err, errNotEnterable) && len(argv) == 0 {
		a.tellDoc(t)
		return nil
	}
	return err
}

// tellDoc prints what the build file says about a target, for people.
func (a *app) tellDoc(t *builtins.Target) {
	if t.Doc != "" && !a.quiet && !a.json {
		fmt.Fprintf(a.stderr, "\n%s\n", t.Doc)
	}
}

// buildFor builds one target to look into or run in, and what its overlays stand
// on. quietly keeps standard output for the command that runs next.
func (a *app) buildFor(ctx context.Context, f *engineFlags, target string, quietly bool) (*built, error) {
	out := a.stdout
	if quietly {
		a.stdout = a.stderr
	}
	if quietly && a.quiet {
		a.stdout = io.Discard
	}
	flags := *f
	flags.beside, flags.one = beneathOverlays, quietly
	b, err := a.build(ctx, &flags, []string{target})
	a.stdout = out
	return b, err
}

// enterTarget runs argv, or a shell, in a throw-away copy of the target.
func (a *app) enterTarget(ctx context.Context, b *built, t *builtins.Target, argv []string, cwd string) (err error) {
	images, err := rootImages(t)
	if err != nil {
		return err
	}
	scratch, err := a.store.Scratch(t.Title + " run")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	mounts, err := a.throwaway(ctx, b, images, scratch.Dir())
	if err != nil {
		return err
	}
	if mounts, err = a.withCWD(mounts); err != nil {
		return err
	}
	spec := container.Spec{Mounts: mounts, Dir: cwd, Arch: t.Arch(), Env: builtins.DefaultEnv(), Hostname: "b9"}
	if err := a.enter(ctx, spec, argv); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return nil
}
