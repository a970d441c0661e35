// Package build holds the commands that build: build, run, shell and explain, and
// log, which is about an earlier one.
//
//	Flags    of every command that builds
//	Request  what a command wants built, and how
//	Do       builds it, writes the results into the output directory, and prints them
//	Built    what a command goes on with
//
// It hides the engine, the cache of finished steps and the trace of the last build.
// How steps are run, and how a build is shown, it leaves to engine and display.
package build

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/container/backends"
	"b9.build/b9/engine/near"
)

// Command is `b9 build`.
func Command(p *session.Program) *cobra.Command {
	var f Flags
	var twice bool
	var onError string
	cmd := &cobra.Command{
		Use:  "build TARGET...",
		Args: command.SomeTargets,
		RunE: p.With(func(ctx context.Context, s *session.Session, args []string) error {
			f.twice = twice
			if err := checkOnError(p, onError); err != nil {
				return err
			}
			err := (&maker{Session: s, Request: Request{Flags: f, Patterns: args, Results: p.Out, final: true}}).run(ctx)
			if onError != "shell" {
				return err
			}
			return enterFailure(ctx, s, err)
		}, f.Configure),
	}
	f.Register(cmd)
	cmd.Flags().BoolVar(&twice, "check-reproducible", false, "build twice, and fail where a step comes out different from the same inputs")
	cmd.Flags().StringVar(&onError, "on-error", "stop", "when a step has failed do `WHAT`: stop, or shell, which opens one in the failed step")
	return cmd
}

// run prints the results of a build that has nothing to do, or does the build.
func (b *maker) run(ctx context.Context) error {
	started := time.Now()
	r, err := b.again(ctx)
	if err != nil {
		return err
	}
	if r == nil {
		_, err := b.do(ctx)
		return err
	}
	if err := b.unchanged(r, started); err != nil {
		return err
	}
	d, end := b.Console.Build(b.Display(b.display))
	r.Seconds = time.Since(started).Seconds()
	d.Finish(display.Summary{Cached: r.Cached, Took: time.Since(started), Notes: b.notes(r)})
	end()
	if err := b.tell(r, nil); err != nil {
		return err
	}
	return b.collect(ctx, r.store)
}

// Flags are those of every command that builds.
type Flags struct {
	jobs      int
	keepGoing bool
	options   []string
	backend   string
	out       string
	place     string
	offline   bool
	refresh   bool
	rerun     []string
	rerunning func(*engine.Node) bool // what rerun names, once it is known
	locked    bool
	alone     bool // without the cache of other machines
	twice     bool // see [maker.checkReproducible]
	display   string
	events    string
	tags      []string
}

// Here are the flags for what only looks at what this machine has: no network is used, and
// no cache of other machines.
func (f Flags) Here() Flags {
	f.offline, f.alone = true, true
	return f
}

// Register adds the flags to a command.
func (f *Flags) Register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "run at most `N` steps at once (default: one a processor)")
	fl.BoolVarP(&f.keepGoing, "keep-going", "k", false, "after a failure, still run what does not depend on it")
	command.Define(fl, &f.options)
	fl.StringVar(&f.backend, "backend", "", "run containers with `NAME`: "+strings.Join(backends.Names(), ", "))
	fl.StringVar(&f.out, "out", "", "put results into `DIR` (default b9-out at the workspace root)")
	fl.StringVar(&f.place, "place", "", "place results `HOW`: copy, link, none (default: results.place)")
	fl.BoolVar(&f.offline, "offline", false, "use no network; remote sources stay as last seen")
	fl.BoolVar(&f.refresh, "refresh", false, "ask remote sources again now")
	fl.StringArrayVar(&f.rerun, "rerun", nil, "run the step of `TARGET` again though it is cached (may be repeated)")
	fl.BoolVar(&f.locked, "locked", false, "fail when a shared image is not in b9.lock")
	fl.StringVar(&f.display, "display", "auto", "show progress as `HOW`: auto, live, plain, json, quiet")
	fl.StringSliceVar(&f.tags, "tags", nil, "of targets that patterns stand for build those with one of the `TAGS`, and none with -TAG")
	fl.StringVar(&f.events, "events", "", "write the events of the build to `FILE`, a JSON document a line")
}

// HideOut leaves --out, --place and --events out of the help of a command that puts no
// results anywhere.
func HideOut(cmd *cobra.Command) {
	for _, name := range []string{"out", "place", "events"} {
		cmd.Flags().Lookup(name).Hidden = true
	}
}

// placings are the values of --place.
var placings = [...]string{"copy", "link", "none"}

// maxJobs is the greatest value of build.jobs.
const maxJobs = 4096

// Configure checks the flags, and sets the settings that they stand for.
func (f *Flags) Configure(cfg *config.Config) error {
	if err := display.CheckMode(f.display); err != nil {
		return exit.Usage(err)
	}
	backends := append([]string{"auto"}, backends.Names()...)
	if err := lang.CheckTags(f.tags); err != nil {
		return exit.Usagef("--tags: %w", err)
	}
	switch {
	case f.jobs < 0 || f.jobs > maxJobs:
		return exit.Usagef("-j %d: want 0 to %d", f.jobs, maxJobs)
	case f.backend != "" && !slices.Contains(backends, f.backend):
		return exit.Usagef("--backend %s: want %s%s", f.backend, strings.Join(backends, ", "), near.Hint(f.backend, backends))
	}
	if f.place != "" && !slices.Contains(placings[:], f.place) {
		return exit.Usagef("--place %s: want %s%s", f.place, strings.Join(placings[:], ", "), near.Hint(f.place, placings[:]))
	}
	cfg.Results.Place = cmp.Or(f.place, cfg.Results.Place)
	cfg.Build.Jobs = cmp.Or(f.jobs, cfg.Build.Jobs)
	cfg.Build.KeepGoing = f.keepGoing || cfg.Build.KeepGoing
	cfg.Container.Backend = cmp.Or(f.backend, cfg.Container.Backend)
	if f.out == "" {
		return nil
	}
	out, err := filepath.Abs(f.out)
	cfg.Build.Out = out
	return err
}
