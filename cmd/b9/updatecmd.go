package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/config"
	"b9/engine/repo"
)

func (a *app) updateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "update [NAME]",
		Short: "Move b9.lock to the newest versions of shared images",
		Long: `Ask the repositories for the newest versions of the shared images in b9.lock, or
of the one named, and write them there. Entries for a version or digest that a
build file names stay. Nothing is fetched: the next build does that.`,
		Example: "  b9 update\n  b9 update debian",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exit.Usagef("update takes one name, got %d", len(args))
			}
			return a.update(cmd.Context(), append(args, "")[0])
		},
	}
}

func (a *app) update(ctx context.Context, name string) error {
	if err := repo.ValidName(name); name != "" && err != nil {
		return exit.Usage(err)
	}
	_, err := a.workspace(ctx, nil)
	if err != nil {
		return err
	}
	before, after, err := a.shared.Update(ctx, name)
	if err != nil {
		return err
	}
	if a.json {
		if after == nil {
			after = []builtins.Locked{}
		}
		return a.print(output.Lock{Images: after})
	}
	if len(after) == 0 && !a.quiet {
		fmt.Fprintf(a.stderr, "nothing to move: %s has no newest version of a shared image (a build that uses one adds it)\n", builtins.LockFile)
	}
	for i, l := range after {
		state := "is the newest"
		if l != before[i] {
			state = "was " + before[i].Version
		}
		fmt.Fprintf(a.stdout, "%s\t%s\n", l, state)
	}
	return nil
}

// sharedConfig lets build files reach the repositories.
func (a *app) sharedConfig(cfg *config.Config) builtins.SharedConfig {
	return builtins.SharedConfig{
		Open: a.openRepository, Local: a.localImages, Default: cfg.DefaultRepository(), Locked: a.locked, KeepLock: a.looks,
		Origin: a.origin, Others: slices.Sorted(maps.Keys(cfg.Repositories)),
	}
}

// origin says where this machine publishes from.
func (a *app) origin() repo.Origin {
	host, _ := os.Hostname() // only for people
	o := repo.Origin{User: os.Getenv("USER"), Host: host, B9: versionInfo().Version}
	o.Source, o.Commit = checkedOut(a.root())
	return o
}

// tellPublished says what a build published.
func (a *app) tellPublished(list []builtins.Published) {
	if a.quiet || a.json {
		return
	}
	for _, p := range list {
		if p.Newer != "" {
			fmt.Fprintf(a.stderr, "%[1]s@%[2]s was published before, and %[1]s@%[3]s is newer: `b9 push %[1]s@%[2]s` sends this one\n", p.Name, p.Version.Version, p.Newer)
			continue
		}
		where := "for this machine: `b9 push " + p.Name + "` sends it on"
		if p.Repository != config.LocalRepository {
			where = "in repository " + p.Repository
		}
		fmt.Fprintf(a.stderr, "published %s@%s %s\n", p.Name, p.Version.Version, where)
	}
}

// tellShared says what shared images a build used.
func (a *app) tellShared(list []builtins.Locked) {
	if a.quiet || a.json {
		return
	}
	for _, l := range list {
		fmt.Fprintf(a.stderr, "shared %s\n", l)
	}
}
