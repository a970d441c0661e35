package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/repo/internal/backend"
)

// Damage is one thing that is wrong in a repository.
type Damage struct {
	Path  string   `json:"path"`  // relative to the repository
	What  string   `json:"what"`  // the fault, in a few words
	Hurts []string `json:"hurts"` // NAME@VERSION or "step KEY", which can't be had in whole
}

// Check reads the repository and returns what is damaged, by name. Without
// deep the manifests are read, and the presence and size of the packs looked
// at; with deep every block is read and compared with its name. An error
// means that the repository could not be examined.
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

// examine is Check by what the log said when it was last read.
func (r *Repo) examine(ctx context.Context, deep bool) ([]Damage, error) {
	c := &checking{r: &Repo{loc: r.loc, opts: r.opts, files: r.files}, deep: deep, hurts: map[packRef][]*entry{}}
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

// damage tells what was found, but for what hurts only those that were taken
// out of the log meanwhile: a collection may have deleted it.
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
	hurts map[packRef][]*entry // who needs a pack
}

// finding is a damage as it is found.
type finding struct {
	path, what string
	hurts      []*entry
}

// note adds a damage.
func (c *checking) note(path string, err error, hurts []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := strings.TrimPrefix(strings.TrimPrefix(err.Error(), path+": "), ErrDamaged.Error()+": ")
	c.found = append(c.found, finding{path, what, hurts})
}

// manifests reads what describes the versions and steps.
func (c *checking) manifests(ctx context.Context, live []*entry) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, e := range live {
		g.Go(func() error {
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
				c.hurts[p] = append(c.hurts[p], e)
			}
			return nil
		})
	}
	return g.Wait()
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
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(downloads)
	for p, hurts := range c.hurts {
		g.Go(func() error {
			err := c.pack(ctx, p, sizes)
			if errors.Is(err, ErrDamaged) {
				c.note(p.path(), err, hurts)
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

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
	return c.blocks(ctx, p, x)
}

// blocks reads a whole pack.
func (c *checking) blocks(ctx context.Context, p packRef, x *packIndex) error {
	dec := newDecoder(2 * frameBlocks * blockSize)
	defer dec.Close()
	all := make([]bool, len(x.frames))
	for i := range all {
		all[i] = true
	}
	var buf []byte
	for _, s := range join(0, x.frames, all) {
		b, err := backend.ReadPart(ctx, c.r.files, p.path(), s.off, s.length)
		if err != nil {
			return lost(p.path(), err)
		}
		for _, f := range x.frames[s.first : s.last+1] {
			if buf, err = x.frame(dec, b[f.off-s.off:][:f.length], f, buf); err != nil {
				return fmt.Errorf("%s: %w: %w", p.path(), ErrDamaged, err)
			}
		}
	}
	return nil
}
