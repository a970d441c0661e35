package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"b9/builtins"
	"b9/engine"
)

func (a *app) cleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "Remove the results in b9-out/ and the kept state of failed steps",
		Long: `Remove the results that b9 put into b9-out/, and nothing else that is there, and
the state that failed steps of this workspace left behind. The store is not touched: the next build finds every step there. See
` + "`b9 cache gc`" + ` for the store.`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.clean() },
	}
}

func (a *app) clean() error {
	dir, err := a.workDir()
	if err != nil {
		return err
	}
	root, err := builtins.FindRoot(dir)
	if err != nil {
		return err
	}
	cfg, err := a.config()
	if err != nil {
		return err
	}
	out := cfg.Build.Out
	if !filepath.IsAbs(out) {
		out = filepath.Join(root, out)
	}
	if _, err := engine.RemoveResults(out); err != nil {
		return err
	}
	st, err := a.openStore()
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
