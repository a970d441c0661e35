package share

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// Shared is the operation shared(), which asks images.
func Shared(images *Images) lang.Operation {
	return lang.Operation{
		Name: "shared",
		Doc: `a shared image from a repository, as a raw image

Without version and digest it is the newest, which b9.lock then holds until
` + "`b9 update`" + ` moves it. Nothing is fetched while the build file is evaluated, and
what any image on this machine has is not fetched again. In a workspace whose
share() publishes the image use its label: shared() resolves before anything is built.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.String, Required: true, Doc: "name of the shared image"},
			lang.NameParam(),
			{Name: "version", Type: lang.String, Doc: "its version, as b9 list prints it; without it the newest"},
			{Name: "digest", Type: lang.String, Doc: `digest of its content, "b3:" and 64 hexadecimal digits`},
			{Name: "repo", Type: lang.String, Doc: `name of the repository, or "local" for what this machine has (default: shared.repository, else the only one there is, else local)`},
		},
		Example: `lxc_exec(name = "web", images = {"/": shared("debian")}, script = "apt-get install -y nginx")`,
		Make:    func(c *lang.Call) (lang.Step, error) { return makeReference(c, images) },
	}
}

func makeReference(c *lang.Call, images *Images) (lang.Step, error) {
	s := &reference{Image: c.String("image"), Version: c.String("version"), Digest: c.String("digest")}
	s.Repo, s.Root, s.Default = cmp.Or(c.String("repo"), images.cfg.Default), images.root, c.String("repo") == ""
	if err := repo.ValidName(s.Image); err != nil {
		if _, version, ok := strings.Cut(s.Image, "@"); ok && version != "" {
			err = fmt.Errorf("%w: give version = %q", err, version)
		}
		c.Errorf("image: %w", err)
	}
	if s.Version != "" && s.Digest != "" {
		c.Errorf("version and digest both choose one: give only one of them")
	}
	if s.Version != "" {
		if err := repo.ValidName(s.Version); err != nil {
			c.Errorf("version: %w", err)
		}
	}
	if s.Digest != "" {
		if d, err := repo.ParseDigest(s.Digest); err != nil {
			c.Errorf("digest: %w", err)
		} else if d.IsZero() {
			c.Errorf("digest: zeros stand in %s for an image of a repository that knows no digests: give its version", LockFile)
		}
	}
	return lang.Step{Action: s, Outputs: lang.OneFile("raw")}, nil
}

// reference gets a shared image. Its content counts, not its name or where
// it comes from.
type reference struct {
	Image   string `key:"-"`
	Version string `key:"-"`
	Digest  string `key:"-"`
	Repo    string `key:"-"`
	Root    string `key:"-"` // of the workspace with the lock file
	Default bool   `key:"-"` // Repo was not named: what the lock file has from another one counts
	Loose   bool   `key:"-"` // asked for on the command line: it is not written into the lock file
}

// Reads implements engine.Told.
func (s *reference) Reads() string { return "shared image " + s.Image }

// Kind implements engine.Action.
func (s *reference) Kind() string { return "shared/1" }

// Fingerprint implements engine.Source: the content and format of what the
// image resolves to. An image of a repository that knows no digests is what
// its name and version say.
func (s *reference) Fingerprint(ctx context.Context, w *engine.World) (store.Digest, error) {
	l, err := s.resolve(ctx, w)
	if err != nil {
		return store.Digest{}, err
	}
	text := l.Format + " " + l.Digest
	if l.unverified() {
		text = fmt.Sprintf("%q %q %q %s", l.Repository, l.Name, l.Version, l.Format)
	}
	return store.Sum([]byte(text)), nil
}

// Meant tells what a shared() stands for as far as the lock file of its workspace says so,
// else what it asks for; ok is false for any other action. No repository is asked.
func Meant(ctx context.Context, a engine.Action) (text string, ok bool) {
	s, ok := a.(*reference)
	if !ok {
		return "", false
	}
	d, err := s.Fingerprint(ctx, &engine.World{Offline: true})
	if err != nil {
		return fmt.Sprintf("%+v", s.question()), true
	}
	return d.String(), true
}

// question is what is asked for, as the lock file keeps it.
func (s *reference) question() Locked {
	return Locked{Name: s.Image, Repository: s.Repo, Want: s.Version + s.Digest}
}

// resolve says what is meant. Without a workspace, when a trace is checked,
// that is what the lock file says or else an error: no repository is asked.
func (s *reference) resolve(ctx context.Context, w *engine.World) (Locked, error) {
	images, ok := engine.Service[*Images](w)
	if !ok {
		images = NewImages(Config{Locked: true}, s.Root)
	}
	return images.resolve(ctx, s, w.Offline)
}

// answer finds the entry that says what is meant: for the default repository
// also that of another one, since which one is the default, and what it is
// called, differs from machine to machine.
func (s *reference) answer(list []Locked) (Locked, bool) {
	q := s.question()
	i := slices.IndexFunc(list, q.same)
	if i < 0 && s.Default {
		i = slices.IndexFunc(list, func(l Locked) bool { return l.Name == q.Name && l.Want == q.Want })
	}
	if i < 0 {
		return q, false
	}
	return list[i], true
}

// Traced lists what the shared() of a trace that stands resolve to, by name.
func Traced(t *engine.Trace) []Locked {
	var list []Locked
	var sources []engine.TracedSource
	for i := range t.Parts {
		sources = append(sources, t.Parts[i].Sources...)
	}
	for _, src := range sources {
		a, err := src.Action(Actions())
		s, ok := a.(*reference)
		if err != nil || !ok {
			continue // another source
		}
		if l, err := s.resolve(context.Background(), &engine.World{Offline: true}); err == nil && !slices.ContainsFunc(list, l.same) {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, Locked.compare)
	return list
}

// Run implements engine.Action.
func (s *reference) Run(ctx context.Context, job *engine.Job) error {
	l, err := s.resolve(ctx, job.World())
	if err != nil {
		return err
	}
	images, err := serviceOf(job.World())
	if err != nil {
		return err
	}
	job.Logf("%s", l)
	if l.Format == "raw" || l.Format == "" {
		return images.fetch(ctx, job, l, job.Output(""))
	}
	path := filepath.Join(job.Dir(), "fetched")
	if err := images.fetch(ctx, job, l, path); err != nil {
		return err
	}
	src, err := disk.Open(path, l.Format, image.Undeclared())
	if err != nil {
		return err
	}
	err = disk.Convert(ctx, src, job.Output(""), "raw", disk.WriteOptions{Progress: job.Progress})
	return errors.Join(err, src.Close(), os.Remove(path))
}

// Prefix begins a pattern that stands for a shared image instead of a
// target: shared:NAME or shared:NAME@VERSION, of the default repository.
const Prefix = "shared:"

// Target is the step that what follows Prefix stands for; name is what its
// result is called.
func (i *Images) Target(text string) (name string, step lang.Step, err error) {
	name, version, pinned := strings.Cut(text, "@")
	err = repo.ValidName(name)
	if err == nil && pinned {
		err = repo.ValidName(version)
	}
	if err != nil {
		return "", lang.Step{}, err
	}
	a := &reference{Image: name, Version: version, Repo: i.cfg.Default, Root: i.root, Default: true, Loose: true}
	return name, lang.Step{Action: a, Outputs: lang.OneFile("raw")}, nil
}

// Config says how share() and shared() reach repositories.
type Config struct {
	// Open opens the repository of that name; the caller closes it. Nil
	// means that there are none.
	Open func(ctx context.Context, name string, progress func(repo.Progress)) (*repo.Repo, error)
	// Local has what this machine shares. Nil means that there is nothing.
	Local    func() (*LocalImages, error)
	Default  string   // name of the repository that is meant where none is named
	Others   []string // names of the repositories that there are
	Locked   bool     // what is not in the lock file is an error
	KeepLock bool     // what is asked for anew is not written into the lock file
	// Waiting is told of a process that keeps b9.lock locked for seconds. Nil is for
	// nobody.
	Waiting func(holder string)

	// Origin is asked for by the first share() that runs: what it says of
	// what it publishes, but for the label. Nil means nothing.
	Origin func() repo.Origin
}

// Images are the shared images that one workspace asks for and publishes.
// Each question is answered once.
type Images struct {
	cfg  Config
	root string

	mu       sync.Mutex
	resolved []Locked
}

// NewImages returns those of the workspace at root, an absolute path.
// share() and shared() run only in an engine that has them among its Services.
func NewImages(cfg Config, root string) *Images {
	if cfg.Open == nil {
		cfg.Open = func(context.Context, string, func(repo.Progress)) (*repo.Repo, error) {
			return nil, errors.New("no repositories are configured")
		}
	}
	if cfg.Local == nil {
		cfg.Local = func() (*LocalImages, error) { return nil, errors.New("this machine keeps no shared images") }
	}
	if cfg.Origin == nil {
		cfg.Origin = func() repo.Origin { return repo.Origin{} }
	}
	return &Images{cfg: cfg, root: root}
}

// serviceOf is what actions reach shared images through.
func serviceOf(w *engine.World) (*Images, error) {
	images, ok := engine.Service[*Images](w)
	if !ok {
		return nil, errors.New("shared images can't be reached: the engine has no *share.Images among its Services")
	}
	return images, nil
}

// Resolved lists what shared() resolved to so far, by name.
func (i *Images) Resolved() []Locked {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := slices.Clone(i.resolved)
	slices.SortFunc(list, Locked.compare)
	return list
}

// resolve answers from what was asked before, from the lock file, or from
// the repository, and then writes the lock file.
func (i *Images) resolve(ctx context.Context, from *reference, offline bool) (Locked, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	q := from.question()
	if l, ok := from.answer(i.resolved); ok {
		return l, nil
	}
	locked, err := readLock(i.root)
	if err != nil {
		return q, err
	}
	if l, ok := from.answer(locked); ok {
		i.resolved = append(i.resolved, l)
		return l, nil
	}
	switch {
	case i.cfg.Locked:
		return q, fmt.Errorf("%s from repository %q is not in %s: run `b9 build` without --locked to add it", q.asked(), q.Repository, LockFile)
	case offline:
		return q, fmt.Errorf("%s from repository %q is not in %s, and --offline forbids to ask", q.asked(), q.Repository, LockFile)
	}
	l, err := i.ask(ctx, q)
	if err != nil && from.Default && q.Repository == config.LocalRepository && len(i.cfg.Others) > 0 {
		return q, fmt.Errorf("%w: to ask one of %s set shared.repository, or give repo=", err, strings.Join(i.cfg.Others, ", "))
	}
	if err == nil && !from.Loose && !i.cfg.KeepLock {
		l, err = addLock(ctx, i.root, i.cfg.Waiting, l)
	}
	if err == nil {
		i.resolved = append(i.resolved, l)
	}
	return l, err
}

// asked names a question for people.
func (l Locked) asked() string {
	if l.Want == "" {
		return fmt.Sprintf("the newest %q", l.Name)
	}
	return fmt.Sprintf("%q, %s,", l.Name, l.Want)
}

// ask resolves in the repository.
func (i *Images) ask(ctx context.Context, q Locked) (Locked, error) {
	sel := repo.Selector{Name: q.Name}
	if strings.Contains(q.Want, ":") {
		var err error
		if sel.Digest, err = repo.ParseDigest(q.Want); err != nil {
			return q, err
		}
	} else {
		sel.Version = q.Want
	}
	v, err := i.find(ctx, q.Repository, sel)
	if err != nil {
		return q, err
	}
	q.Version, q.Digest, q.Format = v.Version, v.Digest.String(), v.Format
	return q, nil
}

// find looks a version up.
func (i *Images) find(ctx context.Context, repository string, sel repo.Selector) (v repo.Version, err error) {
	if repository == config.LocalRepository {
		local, err := i.cfg.Local()
		if err != nil {
			return v, err
		}
		if v, err = local.Resolve(ctx, sel); err != nil {
			err = fmt.Errorf("repository %s: %w", repository, err)
		}
		return v, err
	}
	r, err := i.cfg.Open(ctx, repository, nil)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if v, err = r.Resolve(ctx, sel); err != nil {
		err = fmt.Errorf("repository %s: %w", repository, err)
	}
	return v, err
}

// fetch puts the content at path: from the store where it is there already.
func (i *Images) fetch(ctx context.Context, job *engine.Job, l Locked, path string) (err error) {
	digest, err := store.ParseDigest(l.Digest)
	if err != nil {
		return err
	}
	if err := job.World().Store.Fork(ctx, digest, path); !errors.Is(err, store.ErrNotInStore) {
		return err
	}
	switch {
	case l.Repository == config.LocalRepository:
		return fmt.Errorf("%s is not on this machine any more: build it again, or `b9 update %s` takes another one", l, l.Name)
	case job.World().Offline:
		return fmt.Errorf("%s is not on this machine, and --offline forbids to fetch it", l)
	}
	local, err := i.cfg.Local()
	if err != nil {
		return err
	}
	r, err := i.openLocked(ctx, l, func(p repo.Progress) { job.Progress(p.Done, p.Total) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v, err := r.Resolve(ctx, repo.Selector{Name: l.Name, Version: l.Version})
	if errors.Is(err, repo.ErrNotFound) && l.Want == "" {
		err = fmt.Errorf("%w: it was removed since it came into %s: `b9 update %s` takes another one", err, LockFile, l.Name)
	}
	if err != nil {
		return fmt.Errorf("repository %s: %w", l.Repository, err)
	}
	if v.Digest.String() != l.Digest {
		return fmt.Errorf("repository %s: %s@%s is now %s, and %s has %s: `b9 update %s` takes the new one", l.Repository, l.Name, l.Version, v.Digest, LockFile, l.Digest, l.Name)
	}
	t, err := local.Pull(ctx, r, v, path)
	if err != nil {
		return engine.Elsewhere{Err: err} // or of the store, with advice of its own
	}
	job.Logf("received %d bytes in %v, %d of %d were there", t.Received, t.Elapsed, t.Reused, t.New+t.Reused)
	return nil
}

// openLocked opens the repository that a resolved image is in. One that is
// not known on this machine can be named by nothing but the lock file.
func (i *Images) openLocked(ctx context.Context, l Locked, progress func(repo.Progress)) (*repo.Repo, error) {
	r, err := i.cfg.Open(ctx, l.Repository, progress)
	if err != nil && !slices.Contains(i.cfg.Others, l.Repository) {
		err = fmt.Errorf("%s@%s is in repository %q: %w", l.Name, l.Version, l.Repository, err)
	}
	if err != nil {
		return nil, engine.Elsewhere{Err: err}
	}
	return r, nil
}

// Update asks for the newest version of the locked images again, of that
// name or of all, and writes the lock file. It returns the entries as they
// were and as they are.
func (i *Images) Update(ctx context.Context, name string) (before, after []Locked, err error) {
	all, err := readLock(i.root)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range all {
		if l.Want != "" || name != "" && l.Name != name {
			continue
		}
		now, err := i.ask(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		before, after = append(before, l), append(after, now)
	}
	if name != "" && len(after) == 0 {
		var names []string
		for _, l := range all {
			if l.Want == "" {
				names = append(names, l.Name)
			}
		}
		return nil, nil, fmt.Errorf("%s has no newest %q to move (%s): a build that uses it adds it", LockFile, name, lang.Suggest(lang.Listed(names), name, names))
	}
	return before, after, writeLock(ctx, i.root, i.cfg.Waiting, after...)
}
