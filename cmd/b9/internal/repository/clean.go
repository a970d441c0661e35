package repository

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/size"
)

// cleanGrace spares the data of pushes that are under way.
const cleanGrace = 24 * time.Hour

// CleanLocal is `b9 clean-local`.
func CleanLocal(p *session.Program) *cobra.Command {
	var keep int
	cmd := &cobra.Command{
		Use: "clean-local",
	}
	cmd.RunE = p.With(func(ctx context.Context, s *session.Session, _ []string) error {
		if !cmd.Flags().Changed("keep") {
			if keep = s.Config.Shared.Keep; keep == 0 {
				return exit.Usagef("shared.keep is 0, so that all is kept: give --keep N")
			}
		}
		return clean(ctx, s, config.LocalRepository, repo.CleanOptions{Keep: keep, Steps: -1})
	})
	cmd.Flags().IntVar(&keep, "keep", 0, "keep the newest `N` versions of each name (default: shared.keep)")
	return cmd
}

// CleanRemote is `b9 clean-remote`.
func CleanRemote(p *session.Program) *cobra.Command {
	var name string
	var keep, steps int
	cmd := &cobra.Command{
		Use: "clean-remote",
		RunE: func(cmd *cobra.Command, args []string) error {
			if steps < -1 || steps == -1 && cmd.Flags().Changed("steps") {
				return exit.Usagef("--steps %d: want 0 or more", steps)
			}
			return p.With(func(ctx context.Context, s *session.Session, _ []string) error {
				if r := s.Repositories(); r.Name(name) == config.LocalRepository {
					return r.NotRemote(name != "")
				}
				return clean(ctx, s, name, repo.CleanOptions{Keep: keep, Steps: steps, Grace: cleanGrace})
			})(cmd, args)
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().IntVar(&keep, "keep", 2, "keep the newest `N` versions of each name")
	cmd.Flags().IntVar(&steps, "steps", -1, "keep the `N` build steps published last (default: all)")
	cmd.Flags().Lookup("steps").DefValue = "0" // says nothing of its own about the default
	return cmd
}

func clean(ctx context.Context, s *session.Session, name string, o repo.CleanOptions) (err error) {
	if o.Keep < 1 {
		return exit.Usagef("--keep %d: want 1 or more", o.Keep)
	}
	r, err := s.Repositories().Images(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	report, err := r.Clean(ctx, o)
	if err != nil {
		return err
	}
	report.Removed = output.List(report.Removed)
	_, local := r.(*share.LocalImages)
	return s.Show(output.Clean{CleanReport: report}, cleaned(report, local))
}

// cleaned says what was removed, from what this machine has or from a repository.
func cleaned(report repo.CleanReport, local bool) string {
	var text []byte
	for _, v := range report.Removed {
		text = fmt.Appendf(text, "removed %s@%s\n", v.Name, v.Version)
	}
	versions := output.Count(len(report.Removed), "version", "versions")
	if local {
		return string(fmt.Appendf(text, "%s removed; what nothing else needs goes when the store collects, or with `b9 cache gc --all` at once\n", versions))
	}
	if report.Steps > 0 {
		versions += " and " + output.Count(report.Steps, "build step", "build steps")
	}
	return string(fmt.Appendf(text, "%s removed; %s (%s) that nothing needs deleted, what is younger than a day stays\n", versions, output.Count(report.Files, "file", "files"), size.About(report.Bytes)))
}
