package upkeep

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/size"
)

// Cache is `b9 cache`, with the commands below it.
func Cache(p *session.Program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Show, shrink or verify the store",
		Long:  "Show how much the store holds. The commands below shrink it and verify it.",
		Args:  command.NoArgs,
		RunE:  p.With(usage),
	}
	cmd.AddCommand(collect(p), verify(p))
	return cmd
}

func usage(ctx context.Context, s *session.Session, _ []string) error {
	st, err := s.Store()
	if err != nil {
		return err
	}
	u, err := st.Usage(ctx)
	if err != nil {
		return err
	}
	return s.Show(output.Cache{Usage: u}, fmt.Sprintf("store      %s\nobjects    %d, %s on disk (%s with holes)\nrecords    %d\nlimit      %s, unused for %s\nfailed     %d steps kept, %s\n",
		st.Dir(), u.Files+u.Trees, size.About(u.Allocated), size.About(u.Apparent), u.Records,
		size.About(int64(s.Config.Store.MaxSize)), s.Config.Store.MaxAge, u.Failed, size.About(u.FailedBytes)))
}
