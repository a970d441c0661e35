package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/engine"
)

func (a *app) logCommand() *cobra.Command {
	var options []string
	cmd := &cobra.Command{
		Use:     "log TARGET",
		Short:   "Print what a step printed when it last ran",
		Example: "  b9 log //web:root",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return exit.Usagef("log takes one target, got %d", len(args))
			}
			return a.log(cmd.Context(), options, args[0])
		},
	}
	cmd.Flags().StringArrayVarP(&options, "define", "D", nil, "give the declared option NAME a value, as `NAME=VALUE`")
	return cmd
}

// log prints the log of the kept failure, else of the newest record.
func (a *app) log(ctx context.Context, options []string, target string) error {
	if a.json {
		return exit.Usagef("log prints text: leave out --json")
	}
	ws, err := a.workspace(ctx, options)
	if err != nil {
		return err
	}
	g, err := ws.Resolve(ctx, []string{target})
	if err != nil {
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
	for _, t := range g.Targets {
		for _, k := range kept {
			if k.Name == engine.StepName(t.Title, ws.Root()) {
				return a.printFile(filepath.Join(k.Dir, "log"))
			}
		}
		r, err := st.Latest(engine.StepName(t.Title, ws.Root()))
		if err != nil {
			return err
		}
		if r != nil && r.Log != nil && !st.Has(*r.Log) {
			return fmt.Errorf("%s: its log is not on this machine: it was collected, or the step is only known from the step cache", target)
		}
		if r != nil && r.Log != nil {
			return a.printFile(st.Path(r.Log.Digest))
		}
	}
	return fmt.Errorf("%s: no step of it ran yet that printed something", target)
}

func (a *app) printFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(a.stdout, f)
	return errors.Join(err, f.Close())
}
