package engine

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/store"
)

// What a step sees of a source directory
//
// The key of a step has the digest of a source directory: names, contents,
// programs and texts of links. The directory of the host has more than that:
// owners, times, permissions, extended attributes, hard links, which differ
// between two checkouts. So a step never sees it, but a view: a copy that has
// what the digest counts and is the same everywhere in everything else. A view
// is hashed as it is made, and must have the digest that the keys have.
//
// All views are made by copyView: a private one by [Artifact.Fork], a shared one
// by [Job.Expose], which makes one for each digest and build. Where the file
// system shares blocks a view costs no space. A view that needs no copy at all
// (an overlay, or a file system that answers from the directory) would replace
// views.dir.

// copyView makes dst, which must not exist, a private copy of the located
// source directory.
func (a *Artifact) copyView(ctx context.Context, dst string) error {
	d, err := a.store.CopyTree(ctx, a.path, dst, a.epoch, nil)
	if err == nil && d != a.object.Digest {
		err = changed(a.path)
	}
	return err
}

// changed is the error of a source that is no longer what the key says.
func changed(path string) error {
	return fmt.Errorf("%s was changed while the step used it: nothing was stored, build again", path)
}

// views has the views that the steps of one build share.
type views struct {
	mu   sync.Mutex
	made map[store.Digest]*view
}

// view is one of them. Whoever needs it first makes it, under mu; others wait,
// which a cancel ends, since it ends the making.
type view struct {
	mu      sync.Mutex
	scratch *store.Scratch // nil until it is made
}

// dir returns the view of a located source directory.
func (v *views) dir(ctx context.Context, a *Artifact) (string, error) {
	w := v.of(a.Digest())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.scratch == nil {
		scratch, err := a.store.Scratch("view " + filepath.Base(a.path))
		if err != nil {
			return "", err
		}
		if err := a.copyView(ctx, viewIn(scratch)); err != nil {
			return "", errors.Join(err, scratch.Close())
		}
		w.scratch = scratch
	}
	return viewIn(w.scratch), nil
}

func viewIn(s *store.Scratch) string { return filepath.Join(s.Dir(), "tree") }

func (v *views) of(d store.Digest) *view {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.made == nil {
		v.made = map[store.Digest]*view{}
	}
	if v.made[d] == nil {
		v.made[d] = &view{}
	}
	return v.made[d]
}

// close removes the views, when the steps have ended.
func (v *views) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var errs []error
	for _, w := range v.made {
		if w.scratch != nil {
			errs = append(errs, w.scratch.Close())
		}
	}
	v.made = nil
	return errors.Join(errs...)
}

// keepViews gives a failed step copies of the views that its container has, for
// the views themselves go with the build.
func (j *Job) keepViews(ctx context.Context, mounts []container.Mount) error {
	for i, m := range mounts {
		if !slices.Contains(j.seen, m.Source) {
			continue
		}
		kept := filepath.Join(j.dir, fmt.Sprintf("view%d", i))
		if _, err := j.engine.cfg.Store.CopyTree(ctx, m.Source, kept, j.Epoch(), nil); err != nil {
			return err
		}
		mounts[i].Source = kept
	}
	return nil
}
