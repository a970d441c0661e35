package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Damage is one thing that is wrong in a repository.
type Damage struct {
	Path  string   `json:"path"`  // relative to the repository
	What  string   `json:"what"`  // the fault, in a few words
	Hurts []string `json:"hurts"` // NAME@VERSION or "step KEY" that can't be pulled in whole because of it
	// Unreadable says that the file could not be read, such as one that this user may
	// not: it may be whole.
	Unreadable bool `json:"unreadable,omitempty"`
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
				list = append(list, Damage{f.path, f.what, slices.Compact(hurts), f.unreadable})
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
	unreadable bool // the file may be whole
}

// note adds a finding.
func (c *checking) note(path string, err error, hurts []*entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := strings.TrimPrefix(strings.TrimPrefix(err.Error(), path+": "), ErrDamaged.Error()+": ")
	whole := hurts != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, syscall.EIO) // as far as is known
	c.found = append(c.found, finding{path, what, hurts, whole})
}

// manifests checks the manifests of the entries, and notes which packs they need.
func (c *checking) manifests(ctx context.Context, live []*entry) error {
	there, err := c.list(ctx, "manifests")
	if err != nil {
		return err
	}
	return forEach(ctx, atOnce, live, func(ctx context.Context, _ int, e *entry) error {
		var m *manifest
		_, err := c.file(ctx, e.Recipe.path(), there)
		if err == nil {
			m, err = c.r.manifestOf(ctx, e.Recipe)
		}
		if err != nil {
			return c.unreadable(ctx, e.Recipe.path(), err, []*entry{e})
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
	there, err := c.list(ctx, "packs")
	if err != nil {
		return err
	}
	return forEach(ctx, downloads, slices.Collect(maps.Keys(c.users)), func(ctx context.Context, _ int, p packRef) error {
		if err := c.pack(ctx, p, there); err != nil {
			return c.unreadable(ctx, p.path(), err, c.users[p])
		}
		return nil
	})
}

// list returns what is in a directory, by name.
func (c *checking) list(ctx context.Context, dir string) (map[string]fs.FileInfo, error) {
	files, err := c.r.files.List(ctx, dir)
	there := map[string]fs.FileInfo{}
	for _, f := range files {
		there[f.Name()] = f
	}
	return there, err
}

// file finds a file in the list of its directory. What is there and is none is not
// opened: a server that opens a pipe waits for its other end.
func (c *checking) file(ctx context.Context, name string, there map[string]fs.FileInfo) (fs.FileInfo, error) {
	info, ok := there[path.Base(name)]
	if !ok {
		return nil, lost(name, fs.ErrNotExist)
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if info, err = c.r.files.Stat(ctx, name); err != nil {
			return nil, lost(name, err)
		}
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", ErrDamaged)
	}
	return info, nil
}

// unreadable notes that a file can't be read, whatever keeps it from that: the others are
// checked all the same. Only an end of the check, or of the connection, is an error.
func (c *checking) unreadable(ctx context.Context, path string, err error, hurts []*entry) error {
	if ctx.Err() != nil || errors.Is(err, ErrUnreachable) {
		return err
	}
	c.note(path, err, hurts)
	return nil
}

// pack checks one pack, given what is in the directory.
func (c *checking) pack(ctx context.Context, p packRef, there map[string]fs.FileInfo) error {
	info, err := c.file(ctx, p.path(), there)
	if err != nil {
		return err
	}
	if info.Size() != p.data+p.index {
		return fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, info.Size(), p.data+p.index)
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
