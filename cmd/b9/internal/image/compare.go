package image

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
)

// compare is `b9 image compare`.
func compare(p *session.Program) *cobra.Command {
	var f, second Flags
	cmd := &cobra.Command{
		Use:   "compare FILE FILE",
		Short: "Tell whether two images hold the same bytes",
		Long: `Compare what two images hold, whatever their formats. The shorter one counts as
if zeros followed it. The exit status is 0 if they are the same, 1 if they are
different, and 2 if they could not be compared.`,
		Args: command.ExactArgs("two files", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			second.backing, second.Extents = f.backing, f.Extents
			same, err := compareImages(cmd.Context(), p, args, &f, &second)
			switch {
			case err != nil:
				return &exit.Error{Status: exit.Trouble, Err: err}
			case !same:
				return exit.Status(exit.Different)
			}
			return nil
		},
	}
	f.Register(cmd)
	cmd.Flags().StringVarP(&second.format, "second-format", "F", "", "the second image is in `FORMAT` (default: guessed)")
	return cmd
}

func compareImages(ctx context.Context, p *session.Program, names []string, f, g *Flags) (same bool, err error) {
	first, err := Open(p, names[0], f)
	if err != nil {
		return false, err
	}
	defer first.Close()
	second, err := Open(p, names[1], g)
	if err != nil {
		return false, err
	}
	defer second.Close()
	at, err := disk.Compare(ctx, first, second)
	if err != nil {
		return false, err
	}
	return at < 0, printComparison(p, at)
}

// printComparison says where the first difference is; below 0 there is none.
func printComparison(p *session.Program, at int64) error {
	switch {
	case at >= 0:
		return p.Show(output.Comparison{Offset: &at}, fmt.Sprintf("different at offset %d\n", at))
	case p.Quiet:
		return p.Show(output.Comparison{Identical: true}, "")
	}
	return p.Show(output.Comparison{Identical: true}, "identical\n")
}
