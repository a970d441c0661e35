package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/guest"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// Run is `b9 run`.
func Run(p *session.Program) *cobra.Command {
	var f Flags
	var in entering
	var o guest.Options
	cmd := &cobra.Command{
		Use:  "run FILE|TARGET [-- COMMAND ARG...]",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, argv := command.SplitDash(cmd, args)
			if len(targets) != 1 {
				return exit.Usagef("run takes one target, then `--` and the command, got %d targets", len(targets))
			}
			return p.With(func(ctx context.Context, s *session.Session, targets []string) error {
				return run(ctx, s, f, targets[0], argv, in, o)
			}, f.Configure)(cmd, targets)
		},
	}
	f.Register(cmd)
	cmd.Flags().StringVar(&in.cwd, "cwd", cwdMount, "start the command in `DIR` of the image")
	in.register(cmd)
	registerMachine(cmd, &o)
	return cmd
}

// entering is how a command enters images.
type entering struct {
	surroundings
	cwd       string
	subvolume string // that is mounted of a btrfs
}

func (e *entering) register(cmd *cobra.Command) {
	e.surroundings.register(cmd)
	cmd.Flags().StringVar(&e.subvolume, "subvolume", "", "mount the subvolume `NAME` of a btrfs as the root (default: the one that lxc_exec mounted, else the file system's default)")
}

func run(ctx context.Context, s *session.Session, f Flags, target string, argv []string, in entering, o guest.Options) error {
	o.Network, o.Memory, o.User, o.Share = in.network, in.memory, in.user, in.shares
	// Before something is built; which of the two it is for is known afterwards.
	forImage, forMachine := in.addTo(s, &container.Spec{}), o.Check(s)
	switch {
	case forMachine != nil && o.Given() != "":
		return forMachine
	case forImage != nil && (forMachine != nil || len(in.env) > 0):
		return forImage
	}
	if isImageFile(s, target) {
		return bootFile(ctx, s, target, argv, in, o)
	}
	r := Request{Flags: f, Patterns: []string{target}, Backing: true, Results: s.Out, Aside: func(g *lang.Graph) bool {
		return hasMachine(g) || o.Given() != ""
	}}
	if len(argv) > 0 {
		// The results are the command's own output then.
		r.One, r.Results = true, aside(s.Quiet, s.Console)
	}
	b, err := Do(ctx, s, r)
	if err != nil {
		return err
	}
	t := b.Graph.Targets[0]
	switch flag := o.Given(); {
	case isMachine(t):
		return bootTarget(ctx, s, b, argv, in, o)
	case flag != "":
		return bootDisk(ctx, s, b, flag, argv, in, o)
	case forImage != nil:
		return forImage
	}
	if len(argv) == 0 && !display.IsTerminal(s.In) {
		tellDoc(s, t)
		return nil
	}
	err = enterTarget(ctx, s, b, argv, in)
	switch {
	case errors.Is(err, errNotEnterable) && len(argv) == 0:
		tellDoc(s, t)
		return nil
	case ctx.Err() != nil:
		return exit.Resumes(err, resumes)
	}
	return err
}

// tellDoc prints what the build file says about a target, for people.
func tellDoc(s *session.Session, t *lang.Target) {
	if t.Doc != "" && !s.JSON {
		s.Tell("\n%s", t.Doc)
	}
}

// Shell is `b9 shell`.
func Shell(p *session.Program) *cobra.Command {
	var f Flags
	var fresh bool
	in := entering{cwd: "/"}
	cmd := &cobra.Command{
		Use:  "shell [TARGET] [-- COMMAND ARG...]",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			targets, argv := command.SplitDash(cmd, args)
			if len(targets) > 1 {
				return exit.Usagef("shell takes one target, got %d", len(targets))
			}
			return p.With(func(ctx context.Context, s *session.Session, targets []string) error {
				return shell(ctx, s, f, targets, argv, fresh, in)
			}, f.Configure)(cmd, targets)
		},
	}
	f.Register(cmd)
	cmd.Flags().BoolVar(&fresh, "built", false, "open the built target even when a failed state was kept")
	in.register(cmd)
	return cmd
}

func shell(ctx context.Context, s *session.Session, f Flags, targets, argv []string, fresh bool, in entering) error {
	if err := in.addTo(s, &container.Spec{}); err != nil { // before something is built
		return err
	}
	if !fresh {
		failed, err := failedStep(ctx, s, f, targets)
		if err != nil {
			return err
		}
		if failed != nil {
			return enterFailed(ctx, s, failed, argv, in)
		}
	}
	if len(targets) == 0 {
		return exit.Usagef("no step has failed: name a target to open a shell in")
	}
	b, err := Do(ctx, s, Request{Flags: f, Patterns: targets, Backing: true, One: true, Results: aside(s.Quiet, s.Console)})
	if err != nil {
		return err
	}
	return enterTarget(ctx, s, b, argv, in)
}

// failedStep finds the kept state of the target, or of the last failure when
// none is named; nil when there is none.
func failedStep(ctx context.Context, s *session.Session, f Flags, targets []string) (*store.FailedStep, error) {
	st, err := s.Store()
	if err != nil {
		return nil, err
	}
	kept, err := st.Failed()
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	labels := map[string]bool{}
	if len(targets) > 0 {
		_, g, err := s.Graph(ctx, session.Evaluation{Options: f.options, Locked: f.locked}, targets...)
		if err != nil {
			return nil, err
		}
		for _, n := range engine.Reachable(Refs(g)...) {
			labels[n.Label()] = true
		}
	}
	for _, k := range kept { // the newest first
		label, workspace := engine.SplitStepName(k.Name)
		if workspace == s.Root && (len(targets) == 0 || labels[label]) {
			return &k, nil
		}
	}
	return nil, nil
}

func enterFailed(ctx context.Context, s *session.Session, failed *store.FailedStep, argv []string, in entering) (err error) {
	box, ok, err := engine.LoadSandbox(failed.Dir)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: it failed outside a container; its files and log are in %s", failed.Name, failed.Dir)
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	unlock, err := st.LockFailed(failed.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", failed.Name, err)
	}
	defer unlock()
	release, err := st.Resume(failed.Dir)
	if err != nil {
		return fmt.Errorf("%s: %w", failed.Name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	label, _ := engine.SplitStepName(failed.Name)
	fmt.Fprintf(s.Console, "%s as it failed at %s: %s\n", label, failed.Time.Format(time.DateTime), box.Note)
	spec := box.Spec
	spec.Mounts, spec.Grace = withCWD(s, onSubvolume(box.Spec.Mounts, in.subvolume)), container.DefaultGrace
	// The step's own user and directory may be why it failed.
	spec.User, spec.Dir = "", in.cwd
	if err := in.addTo(s, &spec); err != nil {
		return err
	}
	return enter(ctx, s, spec, argv)
}
