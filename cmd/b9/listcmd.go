package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/engine/repo"
)

func (a *app) listCommand() *cobra.Command {
	var name string
	var long bool
	cmd := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List the shared images of a repository, newest first",
		Long: `List the versions of a shared image, or of all, newest first. With "-r local" it
is what this machine has: what share() published and ` + "`b9 pull`" + ` fetched. --long
and --json tell who made a version, from what, and the key of the step that did.`,
		Example: "  b9 list\n  b9 list debian -r team\n  b9 list -r local --json\n  b9 list --long",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exit.Usagef("list takes one name, got %d", len(args))
			}
			return a.listShared(cmd.Context(), name, append(args, "")[0], long)
		},
	}
	repoFlag(cmd, &name)
	cmd.Flags().BoolVarP(&long, "long", "l", false, "tell where each version comes from, too")
	return cmd
}

func (a *app) listShared(ctx context.Context, repository, image string, long bool) (err error) {
	if err := repo.ValidName(image); image != "" && err != nil {
		return exit.Usage(err)
	}
	r, err := a.openImages(ctx, repository)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	versions, err := justOpened(r)(ctx, image)
	if err != nil {
		return err
	}
	if image != "" && len(versions) == 0 {
		_, err := r.Resolve(ctx, repo.Selector{Name: image}) // which says what there is
		return a.orRepository(image, err)
	}
	if repository == "" {
		a.tellLocal()
	}
	if long && !a.json {
		return a.printLong(versions)
	}
	return a.printVersions(versions)
}

// tellLocal says that what is listed is no repository's because there are
// several and none is the default.
func (a *app) tellLocal() {
	if !a.quiet && a.cfg.Shared.Repository == "" && len(a.cfg.Repositories) > 1 {
		names := strings.Join(slices.Sorted(maps.Keys(a.cfg.Repositories)), ", ")
		fmt.Fprintf(a.stderr, "this is what this machine has: give -r for one of %s, or set shared.repository\n", names)
	}
}

// justOpened is List without looking again for what came since r was opened.
func justOpened(r images) func(context.Context, string) ([]repo.Version, error) {
	if r, ok := r.(*repo.Repo); ok {
		return r.Listed
	}
	return r.List
}
