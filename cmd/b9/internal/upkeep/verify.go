package upkeep

import (
	"fmt"
	"io"
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.Open()
			if err != nil {
				return err
			}
			defer s.Close()
			st, err := s.Store()
			if err != nil {
				return err
			}
			r, err := st.Verify(cmd.Context(), repair)
			if err != nil {
				return err
			}
			if p.JSON {
				err = p.Print(verification(r))
			} else {
				err = printVerify(p.Out, r)
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

func printVerify(w io.Writer, r store.VerifyReport) error {
	for _, d := range slices.Concat(r.Corrupt, r.Missing) {
		if _, err := fmt.Fprintf(w, "damaged  %v\n", d); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d objects verified, %d damaged\n", r.Files+r.Trees, len(r.Corrupt)+len(r.Missing))
	return err
}
