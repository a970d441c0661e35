package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Damage is one thing that is wrong in a repository.
type Damage struct {
	Path  string   `json:"path"`  // relative to the repository
	What  string   `json:"what"`  // the fault, in a few words
	Hurts []string `json:"hurts"` // NAME@VERSION or "step KEY" that can't be pulled in whole because of it
}

// Check reads the repository and returns the damage, ordered by path. Without
// deep it reads the manifests and compares the packs' sizes; with deep it also
// reads every block and compares it with its name. An error means that the
// repository could not be examined.
func (r *Repo) Check(ctx context.Context, deep bool) ([]Damage, error) {
	if r.old != nil {
		return nil, fmt.Errorf("check %s: a repository of the rsync era has no digests to check with", r.loc)
	}
	if err := r.sync(ctx); err != nil {
		return nil, err
	}
	found, err := r.examine(ctx, deep)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", r.loc, err)
	}
	return found, nil
}

// examine checks what the log said when it was last read.
func (r *Repo) examine(ctx context.Context, deep bool) ([]Damage, error) {
	c := &checking{r: &Repo{loc: r.loc, opts: r.opts, files: r.files}, deep: deep, users: map[packRef][]*entry{}}
	var live []*entry
	r.withView(func(v *view) {
		live = v.live()
		if v.torn > 0 {
			c.note(logName, fmt.Errorf("%d lines can't be read; an interrupted push may leave half a line, which does no harm", v.torn), nil)
		}
	})
	err := c.manifests(ctx, live)
	if err == nil {
		err = c.packs(ctx)
	}
	if err == nil && len(c.found) > 0 {
		err = r.sync(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.damage(c.found), nil
}

// damage describes the findings. It leaves out those that hurt only entries
// that were removed from the log meanwhile: a collection may have deleted their
// files.
func (r *Repo) damage(found []finding) (list []Damage) {
	r.withView(func(v *view) {
		for _, f := range found {
			var hurts []string
			for _, e := range f.hurts {
				if still := v.byID[e.Recipe.ID]; still != nil && !still.removed {
					hurts = append(hurts, e.who())
				}
			}
			if len(hurts) > 0 || len(f.hurts) == 0 {
				slices.Sort(hurts)
				list = append(list, Damage{f.path, f.what, slices.Compact(hurts)})
			}
		}
	})
	slices.SortFunc(list, func(a, b Damage) int { return strings.Compare(a.Path, b.Path) })
	return list
}

// checking is a check under way.
type checking struct {
	r    *Repo // without state, so that the repository itself is read
	deep bool

	mu    sync.Mutex
	found []finding
	users map[packRef][]*entry // who needs a pack
}

// finding is one damage before it is known whom it still hurts.
type finding struct {
	path, what string
	hurts      []*entry
}

// note adds a finding.
func (c *checking) note(path string, err error, hurts []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := strings.TrimPrefix(strings.TrimPrefix(err.Error(), path+": "), ErrDamaged.Error()+": ")
	c.found = append(c.found, finding{path, what, hurts})
}

// manifests checks the manifests of the entries, and notes which packs they need.
func (c *checking) manifests(ctx context.Context, live []*entry) error {
	return forEach(ctx, atOnce, live, func(ctx context.Context, _ int, e *entry) error {
		m, err := c.r.manifestOf(ctx, e.Recipe)
		if errors.Is(err, ErrDamaged) {
			c.note(e.Recipe.path(), err, []*entry{e})
			return nil
		}
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, p := range m.packs {
			c.users[p] = append(c.users[p], e)
		}
		return nil
	})
}

// packs checks all packs that a version or step needs.
func (c *checking) packs(ctx context.Context) error {
	files, err := c.r.files.List(ctx, "packs")
	if err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, f := range files {
		sizes[f.Name()] = f.Size()
	}
	return forEach(ctx, downloads, slices.Collect(maps.Keys(c.users)), func(ctx context.Context, _ int, p packRef) error {
		err := c.pack(ctx, p, sizes)
		if errors.Is(err, ErrDamaged) {
			c.note(p.path(), err, c.users[p])
			return nil
		}
		return err
	})
}

// pack checks one pack, given the sizes of all by name.
func (c *checking) pack(ctx context.Context, p packRef, sizes map[string]int64) error {
	size, ok := sizes[p.id.String()]
	if !ok {
		return lost(p.path(), fs.ErrNotExist)
	}
	if size != p.data+p.index {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, size, p.data+p.index)
	}
	if !c.deep {
		return nil
	}
	x, err := c.r.indexOf(ctx, p)
	if err != nil {
		return err
	}
	dec := newDecoder(maxUnpacked)
	defer dec.Close()
	for _, s := range join(0, x.frames, slices.Repeat([]bool{true}, len(x.frames))) {
		if err := c.r.readStretch(ctx, dec, p, x, s, func(frameRef, []byte) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
