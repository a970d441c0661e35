package build

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/container/backends"
)

// Flags are those of every command that builds.
type Flags struct {
	jobs      int
	keepGoing bool
	options   []string
	backend   string
	out       string
	offline   bool
	refresh   bool
	locked    bool
	display   string
}

// Register adds the flags to a command.
func (f *Flags) Register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "run at most `N` steps at once (default: one a processor)")
	fl.BoolVarP(&f.keepGoing, "keep-going", "k", false, "after a failure, still run what does not depend on it")
	command.Define(fl, &f.options)
	fl.StringVar(&f.backend, "backend", "", "run containers with `NAME`: "+strings.Join(backends.Names(), ", "))
	fl.StringVar(&f.out, "out", "", "put results into `DIR` (default b9-out at the workspace root)")
	fl.BoolVar(&f.offline, "offline", false, "use no network; remote sources stay as last seen")
	fl.BoolVar(&f.refresh, "refresh", false, "ask remote sources again now")
	fl.BoolVar(&f.locked, "locked", false, "fail when a shared image is not in b9.lock")
	fl.StringVar(&f.display, "display", "auto", "show progress as `HOW`: auto, live, plain, json, quiet")
}

// HideOut leaves --out out of the help of a command that puts no results anywhere.
func HideOut(cmd *cobra.Command) { cmd.Flags().Lookup("out").Hidden = true }

// maxJobs is the most that build.jobs takes.
const maxJobs = 4096

// Configure checks the flags, and sets the settings that they stand for.
func (f *Flags) Configure(cfg *config.Config) error {
	if err := display.CheckMode(f.display); err != nil {
		return exit.Usage(err)
	}
	backends := append([]string{"auto"}, backends.Names()...)
	switch {
	case f.jobs < 0 || f.jobs > maxJobs:
		return exit.Usagef("-j %d: want 0 to %d", f.jobs, maxJobs)
	case f.backend != "" && !slices.Contains(backends, f.backend):
		return exit.Usagef("--backend %s: want %s", f.backend, strings.Join(backends, ", "))
	}
	if f.jobs > 0 {
		cfg.Build.Jobs = f.jobs
	}
	if f.keepGoing {
		cfg.Build.KeepGoing = true
	}
	if f.backend != "" {
		cfg.Container.Backend = f.backend
	}
	if f.out == "" {
		return nil
	}
	out, err := filepath.Abs(f.out)
	cfg.Build.Out = out
	return err
}
