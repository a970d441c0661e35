package upkeep

import (
	"context"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// Clean is `b9 clean`.
func Clean(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove the results in b9-out/ and the kept state of failed steps",
		Long: `Remove the results that b9 put into b9-out/, and nothing else that is there, and
the state that failed steps of this workspace left behind. The store is not touched: the next build finds every step there. See
` + "`b9 cache gc`" + ` for the store.`,
		Args: command.NoArgs,
		RunE: p.With(clean),
	}
}

func clean(_ context.Context, s *session.Session, _ []string) error {
	root, err := lang.FindRoot(s.Dir)
	if err != nil {
		return err
	}
	if _, err := engine.RemoveResults(s.ResultsDir()); err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	kept, err := st.Failed()
	if err != nil {
		return err
	}
	for _, k := range kept {
		if _, workspace := engine.SplitStepName(k.Name); workspace != root {
			continue
		}
		if err := st.DropFailed(k.Name); err != nil {
			return err
		}
	}
	return st.NameResults(root, nil)
}
