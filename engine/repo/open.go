package repo

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/engine/near"
	"b9.build/b9/engine/repo/internal/backend"
	"b9.build/b9/engine/ssh"
)

// Repo is an open repository. Its methods may be used by several goroutines.
type Repo struct {
	loc   Location
	opts  Options
	files backend.Backend
	old   *oldLayout // not nil for a repository of the program's forerunner
	state state

	trimmed sync.Once // of the state
	lanes   lanes

	mu      sync.Mutex // guards the rest
	view    *view
	copied  *logCopy // until the log was read once
	checked map[fileID]packCheck
}

// Open opens the repository at loc. The error says how to make one if there is
// none, that the format is of another b9, or wraps [ErrUnreachable]. A directory b9_shared_images of the
// program's forerunner, or one that holds it, is opened for reading.
func Open(ctx context.Context, loc Location, opts Options) (*Repo, error) {
	r := newRepo(loc, opts)
	r.copied, r.view = openLogCopy(opts.State, loc)
	err := r.sync(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		if r.old, err = findOld(ctx, r.files); err == nil && r.old == nil {
			err = fmt.Errorf("%w at %s: make one with \"b9 repo add --create\", or correct the location", errNoRepository, loc)
		}
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	r.state = openState(opts.State, r.view.id)
	return r, nil
}

func newRepo(loc Location, opts Options) *Repo {
	opts.Timeout = cmp.Or(max(opts.Timeout, 0), 60*time.Second)
	opts.workers = cmp.Or(opts.workers, min(runtime.GOMAXPROCS(0), 8))
	r := &Repo{loc: loc, opts: opts, view: newView(), copied: &logCopy{}, checked: map[fileID]packCheck{}, lanes: newLanes()}
	if loc.Remote() {
		r.files = backend.NewSFTP(backend.Server{
			Target: ssh.Target{User: loc.User, Host: loc.Host, Port: loc.Port}, Path: loc.Path, Name: loc.String(), Options: opts.SSH,
		}, opts.Timeout)
	} else {
		r.files = backend.NewDir(loc.Path, opts.Waiting)
	}
	return r
}

// directories lists the directories of a repository.
func directories() []string { return []string{"packs", "manifests", "doomed", "tmp"} }

// Create makes a repository at loc and opens it; the directory and its
// parents are made where they are missing. If there is a repository already
// it is opened. A directory that holds something else is refused.
func Create(ctx context.Context, loc Location, opts Options) (*Repo, error) {
	r, err := Open(ctx, loc, opts)
	if !errors.Is(err, errNoRepository) {
		return r, err
	}
	r = newRepo(loc, opts)
	err = r.initialize(ctx)
	r.Close()
	if err != nil {
		return nil, fmt.Errorf("create repository %s: %w", loc, err)
	}
	return Open(ctx, loc, opts)
}

// errNoFormat: a Create was interrupted before it wrote the log's first line.
var errNoFormat = fmt.Errorf("%w: the first line of its log %s is missing: \"b9 repo add --create\" makes up for a creation that was interrupted", errNoRepository, logName)

// initialize makes the directories and, last, the log. If two processes do so at
// once, the first line of the log gives the repository its identity.
func (r *Repo) initialize(ctx context.Context) error {
	if err := r.files.Mkdir(ctx, "."); err != nil {
		return err
	}
	found, err := r.files.List(ctx, ".")
	if err != nil {
		return err
	}
	for _, f := range found {
		if name := f.Name(); name != logName && !slices.Contains(append(directories(), "lost+found"), name) {
			return fmt.Errorf("the directory is not empty (it has %s): choose another one", name)
		}
	}
	for _, dir := range directories() {
		if err := r.files.Mkdir(ctx, dir); err != nil {
			return err
		}
	}
	if err := r.files.Create(ctx, logName, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := r.sync(ctx); !errors.Is(err, errNoFormat) {
		return err
	}
	var id [16]byte
	rand.Read(id[:])
	if err := r.appendLog(ctx, line{Op: opFormat, Format: formatVersion, ID: hex.EncodeToString(id[:])}); err != nil {
		return err
	}
	return r.files.SyncDir(ctx, ".")
}

// OpenToAll reports whether everybody on the repository's machine can write to it, and
// so replace what others pull.
func (r *Repo) OpenToAll(ctx context.Context) (bool, error) {
	names := []string{"."}
	if r.old == nil {
		names = append(names, logName, "packs", "manifests")
	}
	for _, name := range names {
		info, err := r.files.Stat(ctx, name)
		if err != nil {
			return false, err
		}
		if info.Mode().Perm()&0o002 != 0 {
			return true, nil
		}
	}
	return false, nil
}

// Close ends the connection, and what is under way on it.
func (r *Repo) Close() error { return r.files.Close() }

// Location returns where the repository is.
func (r *Repo) Location() Location { return r.loc }

// List returns the versions of an image, or of all if name is empty, newest
// first. Newest is what was published last, whatever the clocks say.
func (r *Repo) List(ctx context.Context, name string) ([]Version, error) {
	if r.old == nil {
		if err := r.sync(ctx); err != nil {
			return nil, err
		}
	}
	return r.Listed(ctx, name)
}

// Listed is [Repo.List] by what the log said when it was last read. [Open] reads
// it, so that a caller who opens a repository only to list it saves two round
// trips.
func (r *Repo) Listed(ctx context.Context, name string) ([]Version, error) {
	if r.old != nil {
		return r.old.list(ctx, r.files, name)
	}
	var all []Version
	r.withView(func(v *view) {
		for _, e := range v.newest(name) {
			all = append(all, *e.Image)
		}
	})
	return all, nil
}

// Resolve returns the version that s chooses. The error wraps [ErrNotFound]
// if there is none, and then names what there is.
func (r *Repo) Resolve(ctx context.Context, s Selector) (Version, error) {
	all, err := r.List(ctx, "")
	if err != nil {
		return Version{}, err
	}
	chosen := func(v Version) bool {
		return v.Name == s.Name && (s.Version == "" || v.Version == s.Version) && (s.Digest.IsZero() || v.Digest == s.Digest)
	}
	if i := slices.IndexFunc(all, chosen); i >= 0 {
		return all[i], nil
	}
	return Version{}, fmt.Errorf("%s is %w %s (%s)", s, ErrNotFound, r.loc, r.whatThereIs(all, s))
}

// String names what is chosen.
func (s Selector) String() string {
	text := "shared image " + s.Name
	if s.Version != "" {
		text += "@" + s.Version
	}
	if !s.Digest.IsZero() {
		text += " with digest " + s.Digest.String()
	}
	return text
}

// whatThereIs lists a few versions of the name that s has, or a few names.
func (r *Repo) whatThereIs(all []Version, s Selector) string {
	const few = 8
	var versions, names []string
	listed := map[string]bool{}
	for _, v := range all {
		if v.Name == s.Name {
			versions = append(versions, v.Version)
		}
		if !listed[v.Name] {
			listed[v.Name] = true
			names = append(names, v.Name)
		}
	}
	list, of, asked := names, "names", s.Name
	if len(versions) > 0 {
		list, of, asked = versions, "versions", s.Version
	}
	if len(list) == 0 {
		return "which is empty"
	}
	text := "it has the " + of + " " + strings.Join(list[:min(few, len(list))], ", ")
	if len(list) > few {
		text += fmt.Sprintf(" and %d more", len(list)-few)
	}
	return text + near.Hint(asked, list)
}

// Remove takes a version out of the list. Its data stays until [Repo.Clean].
func (r *Repo) Remove(ctx context.Context, v Version) error {
	if r.old != nil {
		return fmt.Errorf("remove %s@%s: %w", v.Name, v.Version, ErrReadOnly)
	}
	if err := r.sync(ctx); err != nil {
		return err
	}
	e, err := r.entryOf(v)
	if err != nil {
		return err
	}
	return r.appendLog(ctx, line{Op: opRemove, Removed: e.Recipe.ID})
}

// entryOf finds the line of a version.
func (r *Repo) entryOf(v Version) (found *entry, err error) {
	r.withView(func(w *view) {
		list := w.newest(v.Name)
		chosen := func(e *entry) bool {
			return e.Image.Digest == v.Digest && (v.Version == "" || v.Version == e.Image.Version)
		}
		if i := slices.IndexFunc(list, chosen); i >= 0 {
			found = list[i]
		}
	})
	if found == nil {
		return nil, fmt.Errorf("%s is %w %s", Selector{v.Name, v.Version, v.Digest}, ErrNotFound, r.loc)
	}
	return found, nil
}
