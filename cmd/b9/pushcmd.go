package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9/engine/config"
	"b9/engine/repo"
)

func (a *app) pushCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "push NAME[@VERSION]",
		Short: "Send a shared image of this machine to a repository",
		Long: `Send the newest version of a shared image that this machine has, or the one
named, to a repository. share() in a build file makes one. Only data that the
repository lacks is sent, and an interrupted push goes on where it stopped.`,
		Example: "  b9 push debian\n  b9 push debian@20260102-150405-1a2b3c4d -r team",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("push takes one name, got %d (`b9 list -r local` lists them)", len(args))
			}
			return a.transfer(cmd.Context(), config.LocalRepository, to, args)
		},
	}
	repoFlag(cmd, &to)
	return cmd
}

func (a *app) pullCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use:   "pull [NAME[@VERSION]]",
		Short: "Fetch a shared image, or the newest of each, to this machine",
		Long: `Fetch the newest version of a shared image, or the one named, or without a name
the newest version of every image of the repository. Only data that no version
on this machine has is fetched.`,
		Example: "  b9 pull debian\n  b9 pull -r team",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("pull takes one name, got %d", len(args))
			}
			return a.transfer(cmd.Context(), from, config.LocalRepository, args)
		},
	}
	repoFlag(cmd, &from)
	return cmd
}

// transfer copies versions from one repository to another.
func (a *app) transfer(ctx context.Context, from, to string, names []string) (err error) {
	cfg, err := a.config()
	if err != nil {
		return err
	}
	if to == "" {
		to = cfg.DefaultRepository()
	}
	if from == "" {
		from = cfg.DefaultRepository()
	}
	if from == to {
		return usagef("%s is both where the image is and where it is to go: name a repository with -r", to)
	}
	src, err := a.openRepository(ctx, from, a.transferLine("fetch"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	dst, err := a.openRepository(ctx, to, a.transferLine("send"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	wanted, err := chosen(ctx, src, names)
	if err != nil {
		return fmt.Errorf("repository %s: %w", from, err)
	}
	var moved []repo.Version
	for _, v := range wanted {
		if err := a.copyVersion(ctx, src, dst, v); err != nil {
			return fmt.Errorf("%s@%s: %w", v.Name, v.Version, err)
		}
		moved = append(moved, v)
	}
	return a.printVersions(moved)
}

// chosen resolves NAME or NAME@VERSION, or lists the newest of every name.
func chosen(ctx context.Context, r *repo.Repo, names []string) ([]repo.Version, error) {
	if len(names) > 0 {
		name, version, _ := strings.Cut(names[0], "@")
		v, err := r.Resolve(ctx, repo.Selector{Name: name, Version: version})
		return []repo.Version{v}, err
	}
	all, err := r.List(ctx, "")
	seen := map[string]bool{}
	var newest []repo.Version
	for _, v := range all {
		if !seen[v.Name] {
			seen[v.Name] = true
			newest = append(newest, v)
		}
	}
	return newest, err
}

// copyVersion copies one version, unless it is there.
func (a *app) copyVersion(ctx context.Context, src, dst *repo.Repo, v repo.Version) (err error) {
	have, err := dst.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version})
	if err == nil && have.Digest == v.Digest {
		a.tellTransfer("unchanged", v, repo.Transfer{Reused: v.Data})
		return nil
	}
	if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	st, err := a.openStore()
	if err != nil {
		return err
	}
	scratch, err := st.Scratch("transfer " + v.Name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	path := filepath.Join(scratch.Dir(), "image")
	pulled, err := a.pullWithBase(ctx, src, dst, v, path)
	if err != nil {
		return err
	}
	_, pushed, err := dst.Push(ctx, repo.PushSpec{
		Path: path, Name: v.Name, Version: v.Version, Format: v.Format, FileSystems: v.FileSystems,
		Key: v.Key, Origin: v.Origin, Created: v.Created, Parent: v.Parent, Backing: v.Backing,
	})
	if err != nil {
		return err
	}
	if dst.Location().Remote() || !src.Location().Remote() {
		pulled = pushed
	}
	a.tellTransfer("copied", v, pulled)
	return nil
}

// pullWithBase fetches v to path. The newest version that the other side of
// the transfer has serves as a base, so that what they share does not travel.
func (a *app) pullWithBase(ctx context.Context, src, dst *repo.Repo, v repo.Version, path string) (repo.Transfer, error) {
	var o repo.PullOptions
	if src.Location().Remote() && !dst.Location().Remote() {
		if near, err := dst.Resolve(ctx, repo.Selector{Name: v.Name}); err == nil {
			base := path + ".base"
			if _, err := dst.Pull(ctx, near, base, repo.PullOptions{}); err == nil {
				o.Bases = []string{base}
			}
		}
	}
	return src.Pull(ctx, v, path, o)
}
