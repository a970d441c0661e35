package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"b9/engine/store"
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
	Name, Path string
	Digest     store.Digest // of the content; zero where it is not known
}

// Names of a step's files in a cache. A tree is a bundle.
const cachedLog = "log"

func cachedOutput(i int) string { return fmt.Sprintf("output-%d", i) }

// shares reports whether the step may come from the cache, and go there.
func (b *build) shares(n *Node) bool {
	_, lasting := n.action.(Lasting)
	return b.cfg.Cache != nil && !lasting
}

// learn takes the record of s from the cache. A step that is only on the way
// to what was asked for needs no more, unless one after it has to run.
func (b *build) learn(ctx context.Context, s *state) (bool, error) {
	if !b.shares(s.node) || s.wanted {
		return false, nil
	}
	in, err := b.keyInput(ctx, s)
	if err != nil {
		return false, err
	}
	key, err := nodeKey(s.node, in)
	if err != nil {
		return false, err
	}
	r := b.cachedRecord(ctx, s, key)
	if r == nil || !b.take(s, r.Outputs) {
		return false, nil
	}
	if err := b.cfg.Store.Learn(r); err != nil {
		return false, err
	}
	b.cached(s)
	return true, nil
}

// cachedRecord is the record that the cache has for the key, as this
// workspace would have written it; nil if it has none that can be used.
func (b *build) cachedRecord(ctx context.Context, s *state, key store.Digest) *store.Record {
	data, ok := b.cfg.Cache.Lookup(ctx, key)
	if !ok {
		return nil
	}
	r, err := store.DecodeRecord(key, data)
	if err != nil || !s.node.makes(r.Outputs) {
		return nil
	}
	r.Label = b.Scoped(s.node.Label())
	return r
}

// makes reports whether these are the node's outputs, by name and kind, each
// once.
func (n *Node) makes(outputs []store.Output) bool {
	if len(outputs) != len(n.opts.Outputs) {
		return false
	}
	for _, want := range n.opts.Outputs {
		if !slices.ContainsFunc(outputs, func(o store.Output) bool { return o.Name == want.Name && o.Object.Kind == want.Kind }) {
			return false
		}
	}
	return true
}

// borrow takes the outputs of s from the cache into the store. They count
// only when their content is what the record says.
func (b *build) borrow(ctx context.Context, s *state, key store.Digest) (ok bool, err error) {
	if !b.shares(s.node) {
		return false, nil
	}
	unlock, err := b.cfg.Store.LockKey(ctx, key)
	if err != nil {
		return false, err
	}
	defer unlock()
	if outputs, ok := b.cfg.Store.LookupOutputs(key); ok && b.take(s, outputs) && s.present() {
		b.cached(s)
		return true, nil
	}
	r := b.cachedRecord(ctx, s, key)
	if r == nil {
		return false, nil
	}
	scratch, err := b.cfg.Store.Scratch(s.node.Label() + " (cache)")
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	if !b.cfg.Cache.Fetch(ctx, key, scratch.Dir()) || !b.adoptCached(ctx, r, scratch.Dir()) {
		return false, ctx.Err()
	}
	if err := b.cfg.Store.Commit(r); err != nil {
		return false, err
	}
	if !b.take(s, r.Outputs) {
		return false, nil
	}
	b.cached(s)
	return true, nil
}

// adoptCached takes the files in dir into the store, if they are what the
// record says.
func (b *build) adoptCached(ctx context.Context, r *store.Record, dir string) bool {
	for i, out := range r.Outputs {
		if o, err := b.adoptFile(ctx, out.Object.Kind, filepath.Join(dir, cachedOutput(i))); err != nil || o != out.Object {
			return false
		}
	}
	if r.Log == nil {
		return true
	}
	if o, err := b.adoptFile(ctx, store.File, filepath.Join(dir, cachedLog)); err != nil || o != *r.Log {
		r.Log = nil // a step without its log is better than none
	}
	return true
}

func (b *build) adoptFile(ctx context.Context, kind store.Kind, path string) (store.Object, error) {
	if kind == store.Tree {
		return b.cfg.Store.AdoptBundle(ctx, path)
	}
	return b.cfg.Store.Adopt(ctx, path)
}

// lend publishes a finished step while the build goes on.
func (b *build) lend(ctx context.Context, n *Node, r *store.Record) {
	if !b.shares(n) {
		return
	}
	b.lending.Go(func() {
		if err := b.publish(ctx, r); err != nil && ctx.Err() == nil {
			b.events(Event{Type: StepLog, Node: n, Line: "warning: not published: " + err.Error()})
		}
	})
}

func (b *build) publish(ctx context.Context, r *store.Record) (err error) {
	shared := *r
	shared.Label, _ = Unscoped(r.Label)
	data, err := store.EncodeRecord(&shared)
	if err != nil {
		return err
	}
	scratch, err := b.cfg.Store.Scratch("publish " + shared.Label)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	var files []CachedFile
	for i, out := range r.Outputs {
		f := CachedFile{cachedOutput(i), b.cfg.Store.Path(out.Object.Digest), out.Object.Digest}
		if out.Object.Kind == store.Tree {
			f.Path, f.Digest = filepath.Join(scratch.Dir(), f.Name), store.Digest{}
			if err := b.cfg.Store.Bundle(ctx, out.Object.Digest, f.Path); err != nil {
				return err
			}
		}
		files = append(files, f)
	}
	if r.Log != nil {
		files = append(files, CachedFile{cachedLog, b.cfg.Store.Path(r.Log.Digest), r.Log.Digest})
	}
	for _, f := range files {
		if _, err := os.Lstat(f.Path); err != nil {
			return err // collected meanwhile
		}
	}
	b.cfg.Cache.Publish(ctx, r.Key, data, files)
	return nil
}
