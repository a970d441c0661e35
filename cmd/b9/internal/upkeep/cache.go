package upkeep

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// Cache is `b9 cache`, with the commands below it.
func Cache(p *session.Program) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "cache", RunE: p.With(func(ctx context.Context, s *session.Session, _ []string) error { return usage(ctx, s, all) })}
	cmd.Flags().BoolVar(&all, "all", false, "list everything that takes room, not only what takes most")
	cmd.AddCommand(collect(p), verify(p))
	return cmd
}

// bounds are the flags of `b9 cache gc`.
type bounds struct {
	size, age string
	all, dry  bool
}

// collect is `b9 cache gc`.
func collect(p *session.Program) *cobra.Command {
	var b bounds
	cmd := &cobra.Command{Use: "gc", RunE: p.With(b.collect)}
	cmd.Flags().StringVar(&b.size, "max-size", "", "shrink to `SIZE`, such as 10G, or to a share, such as 50%")
	cmd.Flags().StringVar(&b.age, "max-age", "", "remove what was not used for `TIME`, such as 7d")
	cmd.Flags().BoolVar(&b.all, "all", false, "remove all that may go")
	cmd.Flags().BoolVar(&b.dry, "dry-run", false, "only say what would be removed")
	return cmd
}

// policy is the configured one, with what the flags say.
func (b *bounds) policy(p store.Policy) (store.Policy, error) {
	p.DryRun = b.dry
	if b.size != "" {
		limit, err := size.ParseLimit(b.size)
		if err != nil {
			return p, exit.Usagef("--max-size: %w", err)
		}
		p.MaxSize, p.MaxShare = int64(limit.Bytes), limit.Percent
	}
	if b.age != "" {
		d, err := size.ParseDuration(b.age)
		if err != nil {
			return p, exit.Usagef("--max-age: %w", err)
		}
		p.MaxAge = d.Std()
	}
	switch {
	case b.size != "" && p.MaxSize == 0 && p.MaxShare == 0 || b.age != "" && p.MaxAge == 0:
		return p, exit.Usagef("0 is no limit, and removes nothing: --all removes all that may go")
	case b.all:
		p.MaxSize = -1
	}
	return p, nil
}

func (b *bounds) collect(ctx context.Context, s *session.Session, _ []string) error {
	policy, err := b.policy(s.Policy())
	if err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	r, err := st.Collect(ctx, policy)
	if err != nil {
		return err
	}
	if !b.dry {
		local, err := s.Repositories().Local()
		if err != nil {
			return err
		}
		freed, err := local.DropPulls()
		if err != nil {
			return err
		}
		r.Freed += freed
	}
	verb := "removed"
	if b.dry {
		verb = "would remove"
	}
	return s.Show(output.Collection{CollectReport: r}, fmt.Sprintf("%s %d objects and %d records, %s; %s remain\n", verb, r.Objects, r.Records, size.About(r.Freed), size.About(r.Kept)))
}

// verify is `b9 cache verify`.
func verify(p *session.Program) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use: "verify",
		RunE: p.With(func(ctx context.Context, s *session.Session, _ []string) error {
			st, err := s.Store()
			if err != nil {
				return err
			}
			r, err := st.Verify(ctx, repair)
			if err != nil {
				return err
			}
			r.Corrupt, r.Missing = output.List(r.Corrupt), output.List(r.Missing)
			err = s.Show(output.Verification{VerifyReport: r}, verified(r))
			if damaged := len(r.Corrupt) + len(r.Missing); err == nil && damaged > 0 && !repair {
				err = fmt.Errorf("%d objects are damaged: `b9 cache verify --repair` mends or removes them, the next build makes what is gone again", damaged)
			}
			return err
		}),
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "mend damaged objects with blocks of others, or remove them and the records that name them")
	return cmd
}

// verified is the report for people.
func verified(r store.VerifyReport) string {
	var text []byte
	for _, d := range slices.Concat(r.Corrupt, r.Missing) {
		text = fmt.Appendf(text, "damaged  %v\n", d)
	}
	return string(fmt.Appendf(text, "%d objects verified, %d damaged\n", r.Files+r.Trees, len(r.Corrupt)+len(r.Missing)))
}
