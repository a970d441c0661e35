package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"b9.build/b9/engine/repo/internal/backend"
)

const (
	// atOnce is how many small requests are under way to a server.
	atOnce = 16
	// indexBudget bounds what a push reads of indexes it has not read
	// before: 16 bytes stand for each block of 4 KiB.
	indexBudget = 32 << 20
	// maxDoom bounds a list of files to be deleted, in bytes, and maxDoomed
	// the names in several.
	maxDoom, maxDoomed = 16 << 20, 1 << 20
	// sameName is how many versions of the image a push looks into at least.
	sameName = 3
)

// How a push finds out what it need not send:
//
// There is no list of all blocks of a repository, so the push reads the indexes
// of the packs in which blocks of the image are likely to be: those of the
// newest versions of the same name, of its parent, and of the newest of other
// names and steps, as long as they are on this machine already or a budget of
// bytes lasts. Packs that earlier pushes of this machine have sent, and that no
// version names yet, are looked up by name and size. A pack on a list of files
// that a collection is about to delete does not count. What is missed this way
// is sent once more, which costs bytes and nothing else.

// manifestOf returns a manifest, from this machine's state if it is there.
func (r *Repo) manifestOf(ctx context.Context, ref recipeRef) (*manifest, error) {
	b, ok := r.home.get(ref.ID)
	if !ok {
		if ref.Length < 0 || ref.Length > maxStored {
			return nil, fmt.Errorf("%s: %w: its length would be %d, and %d is the most", ref.path(), ErrDamaged, ref.Length, maxStored)
		}
		var err error
		if b, err = backend.ReadPart(ctx, r.files, ref.path(), 0, ref.Length); err != nil {
			return nil, lost(ref.path(), err)
		}
		if !ref.ID.matches(b) {
			return nil, fmt.Errorf("%s: %w: its content is not what its name says", ref.path(), ErrDamaged)
		}
		r.home.put(ref.ID, b)
	}
	m, err := decodeManifest(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", ref.path(), ErrDamaged, err)
	}
	return m, nil
}

// indexOf returns a pack's index, from this machine's state if it is there.
func (r *Repo) indexOf(ctx context.Context, p packRef) (*packIndex, error) {
	b, ok := r.home.get(p.id)
	if !ok {
		var err error
		if b, err = backend.ReadPart(ctx, r.files, p.path(), p.data, p.index); err != nil {
			return nil, lost(p.path(), err)
		}
		if !p.id.matches(b) {
			return nil, fmt.Errorf("%s: %w: its index is not what its name says", p.path(), ErrDamaged)
		}
		r.home.put(p.id, b)
	}
	x, err := decodeIndex(b, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", p.path(), ErrDamaged, err)
	}
	return x, nil
}

// lost makes it damage that a file is missing which has to be there.
func lost(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: it is missing", name, ErrDamaged)
	}
	return err
}

// errGone: what was wanted was taken out of the log meanwhile.
var errGone = fmt.Errorf("it was removed meanwhile: %w any more", ErrNotFound)

// unlessGone returns err, which came of reading what the version or step with
// this manifest needs, unless the log says by now that it is not there any
// more: then it is no damage that something is missing.
func (r *Repo) unlessGone(ctx context.Context, id fileID, err error) error {
	if !errors.Is(err, ErrDamaged) || r.sync(ctx) != nil {
		return err
	}
	r.withView(func(v *view) {
		if e := v.byID[id]; e != nil && e.removed {
			err = errGone
		}
	})
	return err
}

// indexes returns the indexes of those packs that are wanted, asking for
// several at a time; of the others it is nil.
func (r *Repo) indexes(ctx context.Context, packs []packRef, wanted map[int]bool) ([]*packIndex, error) {
	found := make([]*packIndex, len(packs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range wanted {
		g.Go(func() (err error) {
			found[i], err = r.indexOf(ctx, packs[i])
			return err
		})
	}
	return found, g.Wait()
}

// blockRef is where a block is: a block of a pack that known lists.
type blockRef struct{ pack, block int32 }

// known is what a push need not send. It is used by one goroutine.
type known struct {
	packs  []packRef
	have   map[fileID]bool
	places map[blockID]blockRef
}

func (k *known) add(p packRef, x *packIndex) {
	if k.have[p.id] {
		return
	}
	k.have[p.id] = true
	pack := int32(len(k.packs))
	k.packs = append(k.packs, p)
	for i, id := range x.ids {
		if _, ok := k.places[id]; !ok {
			k.places[id] = blockRef{pack, int32(i)}
		}
	}
}

// findKnown collects what the repository has that an image of this name is likely
// to share: the packs of its newest versions, of its parent's, then of the
// newest version of other names, until it would take too much to read.
func (r *Repo) findKnown(ctx context.Context, name, parent string) (*known, error) {
	k := &known{have: map[fileID]bool{}, places: map[blockID]blockRef{}}
	budget := int64(indexBudget)
	for i, e := range r.relatives(name, parent) {
		m, err := r.manifestOf(ctx, e.Recipe)
		if errors.Is(err, ErrDamaged) {
			continue // Check names it; it must not stand in the way of a new version
		}
		if err != nil {
			return nil, err
		}
		if i >= sameName && !r.affordable(m.packs, &budget) {
			continue
		}
		if err := r.addIndexes(ctx, k, m.packs); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// relatives orders what is published by how likely it shares data with an
// image: newest versions of its name and its parent, then the newest steps
// and the newest versions of other names. For a step, whose name is empty,
// the newest steps come first: what it was made from is among them.
func (r *Repo) relatives(name, parent string) (list []*entry) {
	r.withView(func(v *view) {
		others := v.newestSteps(atOnce)
		seen := map[string]int{}
		for _, e := range v.newest("") {
			seen[e.Image.Name]++
			switch n := seen[e.Image.Name]; {
			case e.Image.Name == name && n <= sameName, e.who() == parent:
				list = append(list, e)
			case n == 1 || e.Image.Name == name && n <= 2*sameName:
				others = append(others, e)
			}
		}
		list = append(list, others[:min(len(others), 4*atOnce)]...)
	})
	return list
}

// affordable reports whether the indexes of packs may be read, and takes
// what is not at hand off the budget.
func (r *Repo) affordable(packs []packRef, budget *int64) bool {
	var cost int64
	for _, p := range packs {
		if _, ok := r.home.get(p.id); !ok {
			cost += p.index
		}
	}
	if cost > *budget {
		return false
	}
	*budget -= cost
	return true
}

// addIndexes reads the indexes of packs and adds them to k. A damaged one is
// left out.
func (r *Repo) addIndexes(ctx context.Context, k *known, packs []packRef) error {
	found := make([]*packIndex, len(packs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, p := range packs {
		if k.have[p.id] {
			continue
		}
		g.Go(func() (err error) {
			found[i], err = r.indexOf(gctx, p)
			if errors.Is(err, ErrDamaged) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, x := range found {
		if x != nil {
			k.add(packs[i], x)
		}
	}
	return nil
}

// doomed returns the files that collections from the epoch on were going to
// delete. An unreadable list is an error: it could name anything.
func (r *Repo) doomed(ctx context.Context, epoch int) (map[fileID]bool, error) {
	var lists []fileID
	r.withView(func(v *view) { lists = v.dooms[min(epoch, len(v.dooms)):] })
	all := map[fileID]bool{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, id := range lists {
		g.Go(func() error {
			ids, err := r.readDoom(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			for _, id := range ids {
				all[id] = true
			}
			if err == nil && len(all) > maxDoomed {
				err = fmt.Errorf("doomed: %w: its lists have more than %d names", ErrDamaged, maxDoomed)
			}
			return err
		})
	}
	return all, g.Wait()
}

func (r *Repo) readDoom(ctx context.Context, id fileID) (ids []fileID, err error) {
	name := "doomed/" + id.String()
	var b []byte
	err = backend.ReadFrom(ctx, r.files, name, 0, 64<<10, maxDoom, func(part []byte) error {
		b = append(b, part...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !id.matches(b) {
		return nil, fmt.Errorf("%s: %w: its content is not what its name says", name, ErrDamaged)
	}
	if ids, err = parseDoom(b); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	return ids, nil
}

// parseDoom reads names, one a line.
func parseDoom(b []byte) (ids []fileID, err error) {
	for text := range bytes.Lines(b) {
		id, err := parseFileID(string(bytes.TrimSuffix(text, []byte("\n"))))
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// seen is what is known of a pack that no version may need yet: whether it is
// there for who knows of so many collections. One that is gone never comes back.
type seen struct {
	epoch int
	there bool
}

// present returns those packs of earlier pushes that are in whole in the
// repository and that no collection up to the epoch is about to delete.
func (r *Repo) present(ctx context.Context, sent []sentPack, epoch int) (packs []packRef, err error) {
	if err := r.inspect(ctx, r.unseen(sent, epoch), epoch); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range sent {
		if r.seen[p.ID] == (seen{epoch, true}) {
			packs = append(packs, p.ref())
		}
	}
	return packs, nil
}

// unseen returns the packs that have to be looked for.
func (r *Repo) unseen(sent []sentPack, epoch int) (list []sentPack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range sent {
		if s, ok := r.seen[p.ID]; !ok || s.there && s.epoch != epoch {
			list = append(list, p)
		}
	}
	return list
}

// inspect looks which of the packs are there.
func (r *Repo) inspect(ctx context.Context, sent []sentPack, now int) error {
	if len(sent) == 0 {
		return nil
	}
	epoch := sent[0].Epoch
	for _, p := range sent {
		epoch = min(epoch, p.Epoch)
	}
	doomed, err := r.doomed(ctx, epoch)
	if err != nil {
		return ctx.Err() // what is sent again does no harm
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, p := range sent {
		g.Go(func() error {
			info, err := r.files.Stat(gctx, p.ref().path())
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen[p.ID] = seen{now, err == nil && info.Size() == p.Data+p.Index && !doomed[p.ID]}
			return nil
		})
	}
	return g.Wait()
}
