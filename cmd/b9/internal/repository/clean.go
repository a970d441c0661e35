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
		RunE: p.With(func(ctx context.Context, s *session.Session, _ []string) error {
			return clean(ctx, s, config.LocalRepository, repo.CleanOptions{Keep: keep, Steps: -1})
		}),
	}
	cmd.Flags().IntVar(&keep, "keep", 2, "keep the newest `N` versions of each name")
	return cmd
}

// CleanRemote is `b9 clean-remote`.
func CleanRemote(p *session.Program) *cobra.Command {
	var name string
	var keep, steps int
	cmd := &cobra.Command{
		Use: "clean-remote",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if steps < -1 || steps == -1 && cmd.Flags().Changed("steps") {
				return exit.Usagef("--steps %d: want 0 or more", steps)
			}
			s, err := p.Open()
			if err != nil {
				return err
			}
			defer s.Close()
			if r := s.Repositories(); r.Name(name) == config.LocalRepository {
				return r.NotRemote(name != "")
			}
			return clean(cmd.Context(), s, name, repo.CleanOptions{Keep: keep, Steps: steps, Grace: cleanGrace})
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
	if report.Removed == nil {
		report.Removed = []repo.Version{}
	}
	if s.JSON {
		return s.Print(output.Clean{CleanReport: report})
	}
	for _, v := range report.Removed {
		fmt.Fprintf(s.Out, "removed %s@%s\n", v.Name, v.Version)
	}
	versions := output.Count(len(report.Removed), "version", "versions")
	if _, ok := r.(*share.LocalImages); ok {
		_, err = fmt.Fprintf(s.Out, "%s removed; what nothing else needs goes when the store collects, or with `b9 cache gc --all` at once\n", versions)
		return err
	}
	if report.Steps > 0 {
		versions += " and " + output.Count(report.Steps, "build step", "build steps")
	}
	_, err = fmt.Fprintf(s.Out, "%s removed; %s (%s) that nothing needs deleted, what is younger than a day stays\n", versions, output.Count(report.Files, "file", "files"), size.About(report.Bytes))
	return err
}
