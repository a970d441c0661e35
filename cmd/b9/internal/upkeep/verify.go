package upkeep

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/store"
)

// verify is `b9 cache verify`.
func verify(p *session.Program) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read every object again and compare it with its digest",
		Args:  command.NoArgs,
		RunE: p.With(func(ctx context.Context, s *session.Session, _ []string) error {
			st, err := s.Store()
			if err != nil {
				return err
			}
			r, err := st.Verify(ctx, repair)
			if err != nil {
				return err
			}
			err = s.Show(verification(r), verified(r))
			if damaged := len(r.Corrupt) + len(r.Missing); err == nil && damaged > 0 && !repair {
				err = fmt.Errorf("%d objects are damaged: `b9 cache verify --repair` removes them, the next build makes them again", damaged)
			}
			return err
		}),
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

// verified is the report for people.
func verified(r store.VerifyReport) string {
	var text []byte
	for _, d := range slices.Concat(r.Corrupt, r.Missing) {
		text = fmt.Appendf(text, "damaged  %v\n", d)
	}
	return string(fmt.Appendf(text, "%d objects verified, %d damaged\n", r.Files+r.Trees, len(r.Corrupt)+len(r.Missing)))
}
