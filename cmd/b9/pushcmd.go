package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
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
				return exit.Usagef("push takes one name, got %d (`b9 list -r local` lists them)", len(args))
			}
			return a.push(cmd.Context(), to, args[0])
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
the newest version of every image of the repository. Only data that no image on
this machine has is fetched, and an interrupted pull goes on where it stopped.`,
		Example: "  b9 pull debian\n  b9 pull -r team",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exit.Usagef("pull takes one name, got %d", len(args))
			}
			return a.pull(cmd.Context(), from, args)
		},
	}
	repoFlag(cmd, &from)
	return cmd
}

// push sends a version that this machine has.
func (a *app) push(ctx context.Context, to, name string) (err error) {
	local, err := a.localImages()
	if err != nil {
		return err
	}
	wanted, err := chosen(ctx, local, []string{name})
	if err != nil {
		return a.orRepository(name, err)
	}
	r, err := a.openRepository(ctx, to, a.transferLine("send"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v := wanted[0]
	if have, err := r.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version}); err == nil && have.Digest == v.Digest {
		a.tellUnchanged(v, "the repository has it")
		return a.printVersions([]repo.Version{have})
	} else if err != nil && !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	a.resumes = "what was sent is kept for the next push"
	path, err := local.Path(v)
	if err != nil {
		return err
	}
	pushed, t, err := r.Push(ctx, builtins.PushSpec(v, path))
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: make room there, for example with `b9 clean-remote -r %s`", err, shellWord(cmp.Or(to, a.cfg.DefaultRepository())))
	}
	if err != nil {
		return unfinished(t, err)
	}
	a.tellTransfer("sent", pushed, t)
	return a.printVersions([]repo.Version{pushed})
}

// pull fetches versions to this machine.
func (a *app) pull(ctx context.Context, from string, names []string) (err error) {
	local, err := a.localImages()
	if err != nil {
		return err
	}
	r, err := a.openRepository(ctx, from, a.transferLine("fetch"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	a.resumes = "what was fetched is kept for the next pull"
	wanted, err := chosen(ctx, r, names)
	if err != nil {
		return a.orRepository(strings.Join(names, ""), err)
	}
	var pulled []repo.Version
	var taken error // which keeps no other from being fetched
	for _, v := range wanted {
		got, err := a.pullVersion(ctx, local, r, v, from)
		switch {
		case errors.Is(err, repo.ErrVersionTaken):
			taken = errors.Join(taken, err)
		case err != nil:
			return err
		default:
			pulled = append(pulled, got)
		}
	}
	if len(pulled) == 0 && taken != nil {
		return taken
	}
	return errors.Join(a.printVersions(pulled), taken)
}

// chosen resolves NAME or NAME@VERSION, or lists the newest of every name.
func chosen(ctx context.Context, r images, names []string) ([]repo.Version, error) {
	if len(names) > 0 {
		name, version, pinned := strings.Cut(names[0], "@")
		if err := repo.ValidName(name); err != nil {
			return nil, exit.Usage(err)
		}
		if err := repo.ValidName(version); pinned && err != nil {
			return nil, exit.Usagef("version: %w", err)
		}
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

// pullVersion fetches one version of the repository that the user called from,
// unless this machine has it.
func (a *app) pullVersion(ctx context.Context, local *builtins.LocalImages, r *repo.Repo, v repo.Version, from string) (got repo.Version, err error) {
	have, ok, err := local.Pulled(ctx, v)
	if err != nil {
		return v, err
	}
	if ok {
		a.tellUnchanged(have, "this machine has it")
		return have, nil
	}
	if other, err := local.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version}); err == nil && other.Digest != v.Digest && !v.Digest.IsZero() {
		return v, fmt.Errorf("%s@%s: this machine's %w (%s, the repository has %s): publish one of them as another version", v.Name, v.Version, repo.ErrVersionTaken, other.Digest, v.Digest)
	}
	scratch, err := a.store.Scratch("pull " + v.Name)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	path := filepath.Join(scratch.Dir(), "image")
	t, err := local.Pull(ctx, r, v, path)
	if errors.Is(err, repo.ErrDamaged) && !v.Digest.IsZero() {
		return v, fmt.Errorf("%w: `b9 repo check %s --deep` tells what else is hurt", err, shellWord(cmp.Or(from, a.cfg.DefaultRepository())))
	}
	if err != nil && !v.Digest.IsZero() { // a repository without digests is copied in one go
		err = unfinished(t, err)
	}
	if err != nil {
		return v, err
	}
	o, err := a.store.Adopt(ctx, path)
	if err != nil {
		return v, err
	}
	newer, err := newerThan(ctx, r, v)
	if err != nil {
		return v, err
	}
	if got, err = local.Add(v, o, newer...); err == nil {
		a.tellTransfer("fetched", got, t)
	}
	return got, err
}

// newerThan lists the versions that a repository has after v.
func newerThan(ctx context.Context, r *repo.Repo, v repo.Version) (newer []string, err error) {
	all, err := r.List(ctx, v.Name)
	for _, other := range all {
		if other.Version == v.Version {
			break
		}
		newer = append(newer, other.Version)
	}
	return newer, err
}
