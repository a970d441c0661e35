package build

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// How long a build waits for the repository of finished steps: to be reached,
// and for any one answer. After that it goes on without.
const (
	cacheConnect = 5 * time.Second
	cacheAnswer  = 15 * time.Second
)

// stepCache is an engine.Cache in a repository. It is opened by the first
// step that asks. When the repository can't be used, it warns once, and then has
// and stores nothing; what is wrong with one step concerns no other.
type stepCache struct {
	repositories session.Repositories
	console      *display.Console
	name         string
	push         atomic.Bool
	opened       sync.Once
	repo         *repo.Repo // nil if it can't be used
	off          atomic.Bool
	damaged      sync.Once     // warns of a damaged step
	slots        chan struct{} // one for each step that is being published
}

// publishing is how many steps are being published at once. The large ones among
// them, which need memory and fill the line, the repository takes one by one; the
// others mostly wait for answers.
const publishing = 4

func newStepCache(r session.Repositories, console *display.Console, name string, push bool) *stepCache {
	c := &stepCache{repositories: r, console: console, name: name, slots: make(chan struct{}, publishing)}
	c.push.Store(push)
	return c
}

// openStepCache returns the cache in the repository that has finished steps; nil if
// none is configured. Offline it has to be a directory.
func openStepCache(s *session.Session, offline bool) *stepCache {
	name, r := s.Config.Shared.Cache, s.Repositories()
	if name == "" {
		return nil
	}
	if loc, err := r.Location(name); err == nil && loc.Remote() && offline {
		return nil
	}
	return newStepCache(r, s.Console, name, s.Config.Shared.CachePush)
}

func (c *stepCache) close() {
	if c != nil && c.repo != nil {
		_ = c.repo.Close() // what it had to do is done
	}
}

// use returns the repository, nil when there is none to be used.
func (c *stepCache) use(ctx context.Context) *repo.Repo {
	c.opened.Do(func() {
		o := repo.Options{Timeout: cacheAnswer}
		o.SSH.Timeout, o.SSH.Keys = cacheConnect, c.repositories.Keys() // a passphrase is not asked for its sake
		r, err := c.repositories.OpenWith(ctx, c.name, o)
		if err != nil {
			c.fail(ctx, err)
			return
		}
		c.repo = r
	})
	if c.off.Load() {
		return nil
	}
	return c.repo
}

// fail gives the cache up, and says so once.
func (c *stepCache) fail(ctx context.Context, err error) {
	if ctx.Err() == nil && !c.off.Swap(true) {
		c.console.Warn("building without the step cache: %v", err)
	}
}

// missed goes on without a step that could not be had. One that was removed
// meanwhile, or for which this machine has no room, is no reason to give up
// the cache; neither is a damaged one, of which only the first is reported.
func (c *stepCache) missed(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil, errors.Is(err, repo.ErrNotFound):
	case errors.Is(err, repo.ErrUnreachable):
		c.fail(ctx, err)
	case errors.Is(err, unix.ENOSPC):
		c.console.Warn("a step of the cache is not used: %v", err)
	case errors.Is(err, repo.ErrDamaged):
		c.damaged.Do(func() {
			c.console.Warn("steps of the cache that are damaged are not used (b9 repo check %s lists them): %v", c.name, err)
		})
	default:
		c.fail(ctx, err)
	}
}

// refused goes on after a step could not be published: without the others,
// too, unless it was the step's fault.
func (c *stepCache) refused(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, repo.ErrUnreachable):
		c.fail(ctx, err)
	case errors.Is(err, repo.ErrSource):
		c.console.Warn("a step is not published: %v", err)
	case c.push.Swap(false):
		c.console.Warn("publishing no steps: %v", err)
	}
}

// Lookup implements engine.Cache.
func (c *stepCache) Lookup(ctx context.Context, key store.Digest) ([]byte, bool) {
	step, ok := c.step(ctx, key)
	return step.Record, ok
}

func (c *stepCache) step(ctx context.Context, key store.Digest) (repo.Step, bool) {
	r := c.use(ctx)
	if r == nil {
		return repo.Step{}, false
	}
	step, err := r.LookupStep(ctx, key.String())
	if err != nil {
		c.missed(ctx, err)
	}
	return step, err == nil
}

// Fetch implements engine.Cache.
func (c *stepCache) Fetch(ctx context.Context, key store.Digest, dir string) bool {
	step, ok := c.step(ctx, key)
	if !ok {
		return false
	}
	for _, o := range step.Objects {
		// The name is the repository's: one that is no plain name is not one of ours.
		if filepath.Base(o.Name) != o.Name || !filepath.IsLocal(o.Name) {
			return false
		}
		if err := c.fetchObject(ctx, o, filepath.Join(dir, o.Name)); err != nil {
			c.missed(ctx, err)
			return false
		}
	}
	return true
}

// keptFrom is the size of an object from which it pays to find out what this
// machine has of it, and to keep what an interrupted build had fetched.
const keptFrom = 4 << 20

func (c *stepCache) fetchObject(ctx context.Context, o repo.Object, path string) error {
	if o.Size < keptFrom {
		_, err := c.repo.Fetch(ctx, o, path, repo.PullOptions{})
		return err
	}
	local, err := c.repositories.Local()
	if err != nil {
		return err
	}
	return local.Fetch(ctx, c.repo, o, path)
}

// Publish implements engine.Cache.
func (c *stepCache) Publish(ctx context.Context, key store.Digest, record []byte, files []engine.CachedFile) {
	if !c.push.Load() {
		return
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return
	}
	r := c.use(ctx)
	if r == nil || !c.push.Load() { // by now
		return
	}
	var list []repo.StepFile
	for _, f := range files {
		file := repo.StepFile{Name: f.Name, Path: f.Path, Digest: f.Digest}
		if f.Store != nil {
			file.Objects = f.Store
		}
		list = append(list, file)
	}
	if _, err := r.PublishStep(ctx, key.String(), record, list); err != nil {
		c.refused(ctx, err)
	}
}
