package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) listCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List the shared images of a repository, newest first",
		Long: `List the versions of a shared image, or of all, newest first. With "-r local" it
is what this machine has: what share() published and ` + "`b9 pull`" + ` fetched.`,
		Example: "  b9 list\n  b9 list debian -r team\n  b9 list -r local --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("list takes one name, got %d", len(args))
			}
			return a.listShared(cmd.Context(), name, append(args, "")[0])
		},
	}
	repoFlag(cmd, &name)
	return cmd
}

func (a *app) listShared(ctx context.Context, repository, image string) (err error) {
	r, err := a.openImages(ctx, repository)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	versions, err := r.List(ctx, image)
	if err != nil {
		return err
	}
	return a.printVersions(versions)
}

// printJSON writes a value for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
