package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/engine"
	"b9/engine/container"
	"b9/engine/store"
)

func (a *app) shellCommand() *cobra.Command {
	var f engineFlags
	var fresh bool
	cmd := &cobra.Command{
		Use:   "shell [TARGET] [-- COMMAND ARG...]",
		Short: "Open a shell in a target, or in the step that failed",
		Long: `Open a shell in the state that a failed step left behind: its images as the
failing command saw them, mounted where it had them. Without a target it is the
step that failed last. What you change there stays until the step succeeds or
` + "`b9 clean`" + ` removes it; no build ever uses it.

When the target has not failed it is built, and the shell opens in a throw-away
copy of it. shared:NAME and shared:NAME@VERSION stand for a shared image.`,
		Example: "  b9 shell\n  b9 shell //web:root\n  b9 shell //web:root -- dpkg --audit",
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, argv := splitDash(cmd, args)
			if len(targets) > 1 {
				return exit.Usagef("shell takes one target, got %d", len(targets))
			}
			return a.shell(cmd.Context(), &f, targets, argv, fresh)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&fresh, "built", false, "open the built target even when a failed state was kept")
	return cmd
}

func (a *app) shell(ctx context.Context, f *engineFlags, targets, argv []string, fresh bool) error {
	if err := f.apply(a); err != nil {
		return err
	}
	if !fresh {
		failed, err := a.failedStep(ctx, f, targets)
		if err != nil {
			return err
		}
		if failed != nil {
			return a.enterFailed(ctx, failed, argv)
		}
	}
	if len(targets) == 0 {
		return exit.Usagef("no step has failed: name a target to open a shell in")
	}
	b, err := a.buildFor(ctx, f, targets[0], true)
	if err != nil {
		return err
	}
	return a.enterTarget(ctx, b, b.graph.Targets[0], argv, "/")
}

// failedStep finds the kept state of the target, or of the last failure when
// none is named; nil when there is none.
func (a *app) failedStep(ctx context.Context, f *engineFlags, targets []string) (*store.FailedStep, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	kept, err := st.Failed()
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	labels := map[string]bool{}
	if len(targets) > 0 {
		ws, err := a.workspace(ctx, f.options)
		if err != nil {
			return nil, err
		}
		g, err := ws.Resolve(ctx, targets)
		if err != nil {
			return nil, err
		}
		for _, n := range engine.Reachable(graphRefs(g)...) {
			labels[n.Label()] = true
		}
	}
	var newest *store.FailedStep
	for i, k := range kept {
		label, workspace := engine.SplitStepName(k.Name)
		if workspace == a.root() && (len(targets) == 0 || labels[label]) && (newest == nil || k.Time.After(newest.Time)) {
			newest = &kept[i]
		}
	}
	return newest, nil
}

func (a *app) enterFailed(ctx context.Context, failed *store.FailedStep, argv []string) error {
	s, ok, err := engine.LoadSandbox(failed.Dir)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: it failed outside a container; its files and log are in %s", failed.Name, failed.Dir)
	}
	unlock, err := a.store.LockFailed(failed.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", failed.Name, err)
	}
	defer unlock()
	label, _ := engine.SplitStepName(failed.Name)
	fmt.Fprintf(a.stderr, "%s as it failed at %s: %s\n", label, failed.Time.Format(time.DateTime), s.Note)
	mounts, err := a.withCWD(s.Spec.Mounts)
	if err != nil {
		return err
	}
	spec := s.Spec
	spec.Mounts, spec.Grace = mounts, container.DefaultGrace
	// The step's own user and directory may be why it failed.
	spec.User, spec.Dir = "", "/"
	return a.enter(ctx, spec, argv)
}
