package inspect

import (
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/session"
)

// Version is `b9 version`.
func Version(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  command.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := session.Version()
			return p.Show(v, fmt.Sprintf("b9 %s (%s, %s)\n", v.Version, v.Revision, v.Go))
		},
	}
}
