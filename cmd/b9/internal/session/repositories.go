package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/near"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/ssh"
)

// Repositories are where shared images and finished steps are: those that the
// configuration names, and what this machine has.
type Repositories struct{ s *Session }

// Repositories returns those of the configuration.
func (s *Session) Repositories() Repositories { return Repositories{s} }

// Images is a list of shared images: a repository, or what this machine has.
type Images interface {
	List(ctx context.Context, name string) ([]repo.Version, error)
	Resolve(ctx context.Context, s repo.Selector) (repo.Version, error)
	Remove(ctx context.Context, v repo.Version) error
	Clean(ctx context.Context, o repo.CleanOptions) (repo.CleanReport, error)
	Check(ctx context.Context, deep bool) ([]repo.Damage, error)
	Location() repo.Location
	Close() error
}

// Name puts the default repository in the place of "".
func (r Repositories) Name(name string) string {
	if name == "" {
		return r.s.Config.DefaultRepository()
	}
	return name
}

// Location finds a repository by name. Anything with a "/" or ":" is a location itself.
func (r Repositories) Location(name string) (repo.Location, error) {
	cfg := r.s.Config
	switch text := cfg.Repositories[name]; {
	case name == config.LocalRepository:
		return repo.Location{Path: share.LocalDir(cfg.Store.Dir)}, nil
	case text != "":
		return repo.ParseLocation(text)
	case strings.ContainsAny(name, "/:"):
		loc, err := repo.ParseLocation(name)
		if err != nil {
			err = exit.Usage(err)
		}
		return loc, err
	}
	return repo.Location{}, r.Unknown(name)
}

// Unknown says that no repository has the name.
func (r Repositories) Unknown(name string) error {
	have := append(slices.Sorted(maps.Keys(r.s.Config.Repositories)), config.LocalRepository)
	return exit.Usagef("there is no repository %q (have %s)%s (`b9 repo add NAME LOCATION` adds one)", name, strings.Join(have, ", "), near.Hint(name, have))
}

// Explain adds to the error of an image that is not there that its name is that
// of a repository, if it is.
func (r Repositories) Explain(name string, err error) error {
	if errors.Is(err, repo.ErrNotFound) && (r.s.Config.Repositories[name] != "" || name == config.LocalRepository) {
		return fmt.Errorf("%w: %q is the name of a repository: give -r %s", err, name, name)
	}
	return err
}

// Images opens a repository by name, or what this machine has; "" is the default
// one.
func (r Repositories) Images(ctx context.Context, name string) (Images, error) {
	if r.Name(name) == config.LocalRepository {
		return r.Local()
	}
	return r.Open(ctx, name, nil)
}

// Local opens the shared images that this machine has.
func (r Repositories) Local() (*share.LocalImages, error) {
	st, err := r.s.Store()
	if err != nil {
		return nil, err
	}
	return share.OpenLocal(st)
}

// NotRemote refuses what this machine has where a repository is needed; named
// says that it was asked for.
func (r Repositories) NotRemote(named bool) error {
	names := strings.Join(slices.Sorted(maps.Keys(r.s.Config.Repositories)), ", ")
	switch {
	case named || r.s.Config.Shared.Repository != "":
		return exit.Usagef("%q is what this machine has: name a repository with -r (`b9 repo list` lists them)", config.LocalRepository)
	case names == "":
		return exit.Usagef("no repository has a name yet: `b9 repo add --create NAME LOCATION` makes one and names it")
	}
	return exit.Usagef("which repository? give -r with one of %s, or set shared.repository", names)
}

// Open opens a repository by name; "" is the default one. What this machine has is
// no repository.
func (r Repositories) Open(ctx context.Context, name string, progress func(repo.Progress)) (*repo.Repo, error) {
	return r.OpenWith(ctx, name, repo.Options{Progress: progress, SSH: r.SSH()})
}

// OpenWith is Open with options, to which it adds the directory for the state of
// repositories.
func (r Repositories) OpenWith(ctx context.Context, name string, o repo.Options) (*repo.Repo, error) {
	named := name != ""
	if name = r.Name(name); name == config.LocalRepository {
		return nil, r.NotRemote(named)
	}
	loc, err := r.Location(name)
	if err != nil {
		return nil, err
	}
	if _, err := r.s.Store(); err != nil { // whose directory holds what is kept of repositories
		return nil, err
	}
	o.Waiting = r.s.WaitsFor("it writes to the repository")
	o.State = filepath.Join(r.s.Config.Store.Dir, "cache", "repo")
	opened, err := repo.Open(ctx, loc, o)
	if err != nil && r.s.Config.Repositories[name] != "" {
		err = fmt.Errorf("%s: %w", name, err) // which says where it is
	}
	if err == nil && !loc.Remote() { // a server would be asked several times for it: `b9 repo check` does
		r.WarnIfOpen(ctx, opened)
	}
	return opened, err
}

// WarnIfOpen says so if everybody on its machine can write to a repository.
func (r Repositories) WarnIfOpen(ctx context.Context, opened *repo.Repo) {
	if open, err := opened.OpenToAll(ctx); err == nil && open {
		r.s.Console.Warn("everybody on its machine can write to the repository %s, and replace what you pull: take the right from others there (chmod -R o-w)", opened.Location())
	}
}

// Keys are the keys of ssh that were opened with a passphrase.
func (r Repositories) Keys() *ssh.Keys { return &r.s.keys }

// SSH lets connections to servers ask for a passphrase on the terminal, if there is
// one, with what a build shows out of the way.
func (r Repositories) SSH() ssh.Options {
	o := ssh.Options{Keys: r.Keys()}
	tty, ok := r.s.In.(*os.File)
	if !ok || !display.IsTTY(tty) {
		return o
	}
	ask := ssh.AskPassphrase(tty, r.s.Err)
	o.Passphrase = func(ctx context.Context, file string, again bool) ([]byte, error) {
		defer r.s.Console.Pause()()
		return ask(ctx, file, again)
	}
	return o
}

// RepositoryOrigin says what sets a repository.
func RepositoryOrigin(name string, cfg *config.Config) string {
	for _, s := range cfg.Settings() {
		if s.Key == config.RepositoryKey(name) {
			return s.Origin
		}
	}
	return ""
}
