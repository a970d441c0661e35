package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"b9.build/b9/engine/store"
)

// Cache has finished steps that other machines made, by key. Its methods may
// be called from several goroutines. It is a help only: what it can't do it
// reports itself, once, and answers that there is nothing.
type Cache interface {
	// Lookup returns the record of a step.
	Lookup(ctx context.Context, key store.Digest) (record []byte, ok bool)
	// Fetch writes the files of a step to the directory, under their names.
	Fetch(ctx context.Context, key store.Digest, dir string) (ok bool)
	// Publish adds a step: its record and its files.
	Publish(ctx context.Context, key store.Digest, record []byte, files []CachedFile)
}

// CachedFile is a file of a step on its way to a cache.
type CachedFile struct {
	Name   string
	Path   string       // of the file, where Store is nil
	Digest store.Digest // of the content; zero where it is not known
	Store  *store.Store // which has the content as the object Digest
}

// Names of a step's files in a cache. A tree is a bundle.
const cachedLog = "log"

func cachedOutput(i int) string { return fmt.Sprintf("output-%d", i) }

// Shareable reports whether the step may come from the cache, and go there.
func Shareable(n *Node) bool {
	_, lasting := n.action.(Lasting)
	p, ok := n.action.(Private)
	return !lasting && !(ok && p.IsPrivate())
}

// record is what the cache has recorded for the key of s, as this workspace
// would have written it; nil if that is nothing that can be used.
func (c shared) record(ctx context.Context, s *step) *store.Record {
	if !Shareable(s.node) {
		return nil
	}
	e := c.x.engine
	data, ok := e.cfg.Cache.Lookup(ctx, s.key)
	if !ok {
		return nil
	}
	r, err := store.DecodeRecord(s.key, data)
	if err != nil || len(r.Outputs) != len(s.node.opts.Outputs) || e.outputsOf(s, r.Outputs) == nil {
		return nil
	}
	r.Label = e.stepName(s.node.Label())
	return r
}

// fetch brings the outputs of s into the store, if the cache has them and they
// are what its record says. The caller holds the lock on the key.
func (c shared) fetch(ctx context.Context, s *step) (list []*Artifact, err error) {
	r := c.record(ctx, s)
	if r == nil {
		return nil, nil
	}
	e := c.x.engine
	scratch, err := e.cfg.Store.Scratch(s.node.Label() + " (cache)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	if !e.cfg.Cache.Fetch(ctx, s.key, scratch.Dir()) || !e.adoptFetched(ctx, r, scratch.Dir()) {
		return nil, ctx.Err()
	}
	e.tell(ctx, s, r)
	if err := e.cfg.Store.Commit(r); err != nil {
		return nil, err
	}
	c.x.countFound(s)
	return e.outputsOf(s, r.Outputs), nil
}

// tell gives a record that comes from the cache the texts of this machine's sources.
func (e *Engine) tell(ctx context.Context, s *step, r *store.Record) {
	_, r.Texts, _ = e.described(ctx, s.node, s.basis) // which fails for what has no key
}

// adoptFetched moves the files in dir into the store, if they are what the
// record says.
func (e *Engine) adoptFetched(ctx context.Context, r *store.Record, dir string) bool {
	for i, out := range r.Outputs {
		if o, err := e.adoptFile(ctx, out.Object.Kind, filepath.Join(dir, cachedOutput(i))); err != nil || o != out.Object {
			return false
		}
	}
	if r.Log == nil {
		return true
	}
	if o, err := e.adoptFile(ctx, store.File, filepath.Join(dir, cachedLog)); err != nil || o != *r.Log {
		r.Log = nil // a step without its log is better than none
	}
	return true
}

func (e *Engine) adoptFile(ctx context.Context, kind store.Kind, path string) (store.Object, error) {
	if kind == store.Tree {
		return e.cfg.Store.AdoptBundle(ctx, path)
	}
	return e.cfg.Store.Adopt(ctx, path)
}

// publish sends a finished step to the cache while the build goes on.
func (x *executor) publish(ctx context.Context, n *Node, r *store.Record) {
	if x.engine.cfg.Cache == nil || !Shareable(n) {
		return
	}
	x.publishing.Go(func() {
		if err := x.engine.publish(ctx, r); err != nil && ctx.Err() == nil {
			x.engine.events(Event{Type: StepLog, Node: n, Line: "warning: not published: " + err.Error()})
		}
	})
}

func (e *Engine) publish(ctx context.Context, r *store.Record) (err error) {
	shared := *r
	shared.Label, _ = SplitStepName(r.Label)
	shared.Texts = nil // of sources, which are not for all who read the cache
	data, err := store.EncodeRecord(&shared)
	if err != nil {
		return err
	}
	scratch, err := e.cfg.Store.Scratch("publish " + shared.Label)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	var files []CachedFile
	for i, out := range r.Outputs {
		if !e.cfg.Store.Has(out.Object) {
			return fmt.Errorf("%s: %w any more", out.Object, store.ErrNotInStore) // collected or damaged meanwhile
		}
		f := CachedFile{Name: cachedOutput(i), Digest: out.Object.Digest, Store: e.cfg.Store}
		if out.Object.Kind == store.Tree {
			f = CachedFile{Name: f.Name, Path: filepath.Join(scratch.Dir(), f.Name)}
			if err := e.cfg.Store.Bundle(ctx, out.Object.Digest, f.Path); err != nil {
				return err
			}
		}
		files = append(files, f)
	}
	if r.Log != nil {
		files = append(files, CachedFile{Name: cachedLog, Digest: r.Log.Digest, Store: e.cfg.Store})
	}
	e.cfg.Cache.Publish(ctx, r.Key, data, files)
	return nil
}
