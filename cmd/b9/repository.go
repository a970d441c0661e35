package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/config"
	"b9/engine/near"
	"b9/engine/repo"
	"b9/engine/size"
)

// repoFlag adds -r to a command.
func repoFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVarP(name, "repository", "r", "", "the repository `NAME`, or where it is: a directory, ssh://host/path (default: shared.repository, else the only one there is)")
}

// location finds a repository by name. Anything with a "/" or ":" is a location itself.
func (a *app) location(name string) (repo.Location, error) {
	cfg, err := a.config()
	if err != nil {
		return repo.Location{}, err
	}
	switch text := cfg.Repositories[name]; {
	case name == config.LocalRepository:
		return repo.Location{Path: builtins.LocalDir(cfg.Store.Dir)}, nil
	case text != "":
		return repo.ParseLocation(text)
	case strings.ContainsAny(name, "/:"):
		loc, err := repo.ParseLocation(name)
		if err != nil {
			err = exit.Usage(err)
		}
		return loc, err
	}
	return repo.Location{}, unknownRepository(name, cfg)
}

// unknownRepository says that no repository has the name.
func unknownRepository(name string, cfg *config.Config) error {
	have := append(slices.Sorted(maps.Keys(cfg.Repositories)), config.LocalRepository)
	return exit.Usagef("there is no repository %q (have %s)%s (`b9 repo add NAME LOCATION` adds one)", name, strings.Join(have, ", "), near.Hint(name, have))
}

// orRepository adds to the error of an image that is not there that its name
// is that of a repository, if it is.
func (a *app) orRepository(name string, err error) error {
	if errors.Is(err, repo.ErrNotFound) && (a.cfg.Repositories[name] != "" || name == config.LocalRepository) {
		return fmt.Errorf("%w: %q is the name of a repository: give -r %s", err, name, name)
	}
	return err
}

// images is a list of shared images: a repository, or what this machine has.
type images interface {
	List(ctx context.Context, name string) ([]repo.Version, error)
	Resolve(ctx context.Context, s repo.Selector) (repo.Version, error)
	Remove(ctx context.Context, v repo.Version) error
	Clean(ctx context.Context, o repo.CleanOptions) (repo.CleanReport, error)
	Check(ctx context.Context, deep bool) ([]repo.Damage, error)
	Location() repo.Location
	Close() error
}

// openImages opens a repository by name, or what this machine has; "" is the
// default one.
func (a *app) openImages(ctx context.Context, name string) (images, error) {
	name, err := a.repositoryName(name)
	if err != nil {
		return nil, err
	}
	if name == config.LocalRepository {
		return a.localImages()
	}
	return a.openRepository(ctx, name, nil)
}

// repositoryName puts the default repository in the place of "".
func (a *app) repositoryName(name string) (string, error) {
	cfg, err := a.config()
	if err != nil || name != "" {
		return name, err
	}
	return cfg.DefaultRepository(), nil
}

// localImages opens the shared images that this machine has.
func (a *app) localImages() (*builtins.LocalImages, error) {
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	return builtins.OpenLocal(st)
}

// notRemote refuses what this machine has where a repository is needed; named
// says that it was asked for.
func notRemote(cfg *config.Config, named bool) error {
	names := strings.Join(slices.Sorted(maps.Keys(cfg.Repositories)), ", ")
	switch {
	case named || cfg.Shared.Repository != "":
		return exit.Usagef("%q is what this machine has: name a repository with -r (`b9 repo list` lists them)", config.LocalRepository)
	case names == "":
		return exit.Usagef("no repository has a name yet: `b9 repo add --create NAME LOCATION` makes one and names it")
	}
	return exit.Usagef("which repository? give -r with one of %s, or set shared.repository", names)
}

// openRepository opens a repository by name; "" is the default one. What
// this machine has is no repository.
func (a *app) openRepository(ctx context.Context, name string, progress func(repo.Progress)) (*repo.Repo, error) {
	return a.openRepositoryWith(ctx, name, repo.Options{Progress: progress, SSH: a.sshOptions()})
}

func (a *app) openRepositoryWith(ctx context.Context, name string, o repo.Options) (*repo.Repo, error) {
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	named := name != ""
	if name, err = a.repositoryName(name); err != nil {
		return nil, err
	}
	if name == config.LocalRepository {
		return nil, notRemote(cfg, named)
	}
	loc, err := a.location(name)
	if err != nil {
		return nil, err
	}
	if _, err := a.openStore(); err != nil { // whose directory holds what is kept of repositories
		return nil, err
	}
	o.State = filepath.Join(cfg.Store.Dir, "cache", "repo")
	r, err := repo.Open(ctx, loc, o)
	if err != nil && cfg.Repositories[name] != "" {
		err = fmt.Errorf("%s: %w", name, err) // which says where it is
	}
	return r, err
}

// tellUnchanged says that nothing had to move.
func (a *app) tellUnchanged(v repo.Version, why string) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, "unchanged %s@%s: %s\n", v.Name, v.Version, why)
	}
}

// shortDigest is enough of a digest for people; nothing for an image of a
// repository that knows none.
func shortDigest(d repo.Digest) string {
	if d.IsZero() {
		return "-"
	}
	return d.String()[:15]
}

// printVersions prints versions as a table, or as JSON.
func (a *app) printVersions(versions []repo.Version) error {
	if a.json {
		if versions == nil {
			versions = []repo.Version{}
		}
		return a.print(output.Images{Images: versions})
	}
	rows := [][]string{{"NAME", "VERSION", "FORMAT", "SIZE", "DATA", "CREATED", "DIGEST"}}
	for _, v := range versions {
		rows = append(rows, []string{v.Name, v.Version, v.Format, size.About(v.Size), size.About(v.Data), v.Created.Local().Format(time.DateTime), shortDigest(v.Digest)})
	}
	return output.Table(a.stdout, rows)
}

// printLong prints versions in a few lines each.
func (a *app) printLong(versions []repo.Version) error {
	var text []byte
	for _, v := range versions {
		whole := v.Digest.String()
		if v.Digest.IsZero() {
			whole = "" // see shortDigest
		}
		text = fmt.Appendf(text, "%s@%s\n", v.Name, v.Version)
		for _, line := range [][2]string{
			{"content", whole},
			{"format", strings.Join(append([]string{v.Format}, v.FileSystems...), ", ")},
			{"size", fmt.Sprintf("%s, %s of them data", size.About(v.Size), size.About(v.Data))},
			{"created", v.Created.Local().Format(time.DateTime)},
			{"made from", v.Parent},
			{"made by", strings.Trim(v.Origin.User+"@"+v.Origin.Host, "@")},
			{"target", v.Origin.Label},
			{"source", strings.TrimSpace(v.Origin.Source + " " + v.Origin.Commit)},
			{"b9", v.Origin.B9},
			{"key", v.Key},
		} {
			if line[1] != "" {
				text = fmt.Appendf(text, "    %-10s %s\n", line[0], line[1])
			}
		}
	}
	_, err := a.stdout.Write(text)
	return err
}

// sshOptions lets connections to servers ask for a passphrase on the terminal,
// if there is one, with what a build shows out of the way.
func (a *app) sshOptions() repo.SSHOptions {
	o := repo.SSHOptions{Keys: &a.keys}
	tty, ok := a.stdin.(*os.File)
	if !ok || !isTTY(tty) {
		return o
	}
	ask := repo.AskPassphrase(tty, a.stderr)
	o.Passphrase = func(ctx context.Context, file string, again bool) ([]byte, error) {
		if d := a.shown.Load(); d != nil {
			defer d.Pause()()
		}
		return ask(ctx, file, again)
	}
	return o
}

// warn tells of something that hinders a build and does not stop it.
func (a *app) warn(format string, args ...any) {
	message := "b9: warning: " + fmt.Sprintf(format, args...)
	if d := a.shown.Load(); d != nil {
		d.Note(message)
		return
	}
	fmt.Fprintln(a.stderr, message)
}
