package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/size"
	"b9/engine/store"
)

func (a *app) cacheCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show, shrink or verify the store",
		Long:  "Show how much the store holds. The commands below shrink it and verify it.",
		Args:  noArgs,
		RunE:  a.cacheUsage,
	}
	cmd.AddCommand(a.cacheGCCommand(), a.cacheVerifyCommand())
	return cmd
}

func (a *app) cacheUsage(cmd *cobra.Command, _ []string) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	u, err := st.Usage(cmd.Context())
	if err != nil {
		return err
	}
	if a.json {
		return a.print(output.Cache{Usage: u})
	}
	_, err = fmt.Fprintf(a.stdout, "store      %s\nobjects    %d, %s on disk (%s with holes)\nrecords    %d\nlimit      %s, unused for %s\nfailed     %d steps kept, %s\n",
		st.Dir(), u.Files+u.Trees, size.About(u.Allocated), size.About(u.Apparent), u.Records,
		size.About(int64(a.cfg.Store.MaxSize)), a.cfg.Store.MaxAge, u.Failed, size.About(u.FailedBytes))
	return err
}

func (a *app) cacheGCCommand() *cobra.Command {
	var size, age string
	var all, dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what was not used for longest",
		Long: `Remove objects and records that were not used for longest, until the store is
within its bounds (store.max_size, store.max_age), or with --all until nothing
is left that may go. What a running build uses and what the results in b9-out/
of any workspace came from stay, and so do the shared images of this machine; ` + "`b9 clean`" + ` lets go of those of this workspace. What interrupted
pulls left goes.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if size != "" {
				a.settings = append(a.settings, "store.max_size="+size)
			}
			if age != "" {
				a.settings = append(a.settings, "store.max_age="+age)
			}
			return a.cacheGC(cmd, all, dry)
		},
	}
	cmd.Flags().StringVar(&size, "max-size", "", "shrink to `SIZE`, such as 10G")
	cmd.Flags().StringVar(&age, "max-age", "", "remove what was not used for `TIME`, such as 7d")
	cmd.Flags().BoolVar(&all, "all", false, "remove all that may go")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	return cmd
}

func (a *app) cacheGC(cmd *cobra.Command, all, dry bool) error {
	st, err := a.openStore()
	if err != nil {
		return err
	}
	p := store.Policy{MaxSize: int64(a.cfg.Store.MaxSize), MaxAge: time.Duration(a.cfg.Store.MaxAge), DryRun: dry}
	switch {
	case cmd.Flags().Changed("max-size") && p.MaxSize == 0 || cmd.Flags().Changed("max-age") && p.MaxAge == 0:
		return exit.Usagef("0 is no limit, and removes nothing: --all removes all that may go")
	case all:
		p.MaxSize = -1
	}
	r, err := st.Collect(cmd.Context(), p)
	if err != nil {
		return err
	}
	if !dry {
		local, err := a.localImages()
		if err != nil {
			return err
		}
		freed, err := local.DropPulls()
		if err != nil {
			return err
		}
		r.Freed += freed
	}
	if a.json {
		return a.print(output.Collection{CollectReport: r})
	}
	verb := "removed"
	if dry {
		verb = "would remove"
	}
	_, err = fmt.Fprintf(a.stdout, "%s %d objects and %d records, %s; %s remain\n", verb, r.Objects, r.Records, size.About(r.Freed), size.About(r.Kept))
	return err
}

func (a *app) cacheVerifyCommand() *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every object again and compare it with its digest",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := a.openStore()
			if err != nil {
				return err
			}
			r, err := st.Verify(cmd.Context(), repair)
			if err != nil {
				return err
			}
			if a.json {
				err = a.print(verification(r))
			} else {
				err = a.printVerify(r)
			}
			if damaged := len(r.Corrupt) + len(r.Missing); err == nil && damaged > 0 && !repair {
				err = fmt.Errorf("%d objects are damaged: `b9 cache verify --repair` removes them, the next build makes them again", damaged)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "remove damaged objects and the records that name them")
	return cmd
}

// verification has lists where the report has none.
func verification(r store.VerifyReport) output.Verification {
	if r.Corrupt == nil {
		r.Corrupt = []store.Damage{}
	}
	if r.Missing == nil {
		r.Missing = []store.Damage{}
	}
	return output.Verification{VerifyReport: r}
}

func (a *app) printVerify(r store.VerifyReport) error {
	for _, d := range slices.Concat(r.Corrupt, r.Missing) {
		if _, err := fmt.Fprintf(a.stdout, "damaged  %v\n", d); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "%d objects verified, %d damaged\n", r.Files+r.Trees, len(r.Corrupt)+len(r.Missing))
	return err
}
