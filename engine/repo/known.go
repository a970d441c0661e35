package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"

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
	return stored(ctx, r, part{ref.ID, ref.path(), 0, ref.Length, "content"}, decodeManifest)
}

// indexOf returns a pack's index, from this machine's state if it is there.
func (r *Repo) indexOf(ctx context.Context, p packRef) (*packIndex, error) {
	return stored(ctx, r, part{p.id, p.path(), p.data, p.index, "index"}, func(b []byte) (*packIndex, error) { return decodeIndex(b, p) })
}

// part is a part of a file that the id is a hash of.
type part struct {
	id          fileID
	path        string
	off, length int64
	what        string // for messages
}

// stored reads a part and decodes it.
func stored[T any](ctx context.Context, r *Repo, p part, decode func([]byte) (*T, error)) (*T, error) {
	b, kept := r.state.get(p.id)
	if !kept {
		if p.length < 0 || p.length > maxStored {
			return nil, fmt.Errorf("%s: %w: its length would be %d, and %d is the most", p.path, ErrDamaged, p.length, maxStored)
		}
		var err error
		if b, err = backend.ReadPart(ctx, r.files, p.path, p.off, p.length); err != nil {
			return nil, lost(p.path, err)
		}
		if !p.id.matches(b) {
			return nil, fmt.Errorf("%s: %w: its %s is not what its name says", p.path, ErrDamaged, p.what)
		}
		r.state.put(p.id, b)
	}
	v, err := decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", p.path, ErrDamaged, err)
	}
	return v, nil
}

// lost returns damage in place of the error that a file is missing, for one
// that has to be there.
func lost(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: it is missing", name, ErrDamaged)
	}
	return err
}

// errGone: the version or step was removed from the log meanwhile.
var errGone = fmt.Errorf("it was removed meanwhile: %w any more", ErrNotFound)

// unlessGone returns err, the error from reading the files of the version or
// step with this manifest, unless the log says by now that it was removed: a
// collection may then have deleted the files, and nothing is damaged.
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

// indexes returns the indexes of the wanted packs, by their places in packs;
// the other places are nil.
func (r *Repo) indexes(ctx context.Context, packs []packRef, wanted map[int]bool) ([]*packIndex, error) {
	found := make([]*packIndex, len(packs))
	err := forEach(ctx, atOnce, slices.Collect(maps.Keys(wanted)), func(ctx context.Context, _, i int) (err error) {
		found[i], err = r.indexOf(ctx, packs[i])
		return err
	})
	return found, err
}

// blockRef says where a block is stored: which block of which pack of known.
type blockRef struct{ pack, block int32 }

// known lists the blocks that a push need not send. It is used by one goroutine.
type known struct {
	packs    []packRef
	have     map[fileID]bool
	places   map[blockID]blockRef
	contents []listed // of manifests that were read, the likeliest first
}

func newKnown() *known { return &known{have: map[fileID]bool{}, places: map[blockID]blockRef{}} }

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

// findKnown adds to k the blocks that an image of this name is likely to share with
// the repository: those of the packs of its newest versions, of its parent's,
// then of the newest version of other names, as far as the budget goes.
func (r *Repo) findKnown(ctx context.Context, k *known, name, parent string) error {
	budget := int64(indexBudget)
	for i, e := range r.relatives(name, parent) {
		m, err := r.manifestOf(ctx, e.Recipe)
		if errors.Is(err, ErrDamaged) {
			continue // Check names it; it must not stand in the way of a new version
		}
		if err != nil {
			return err
		}
		if i >= sameName && !r.affordable(m.packs, &budget) {
			continue
		}
		if err := r.addIndexes(ctx, k, m.packs); err != nil {
			return err
		}
		k.remember(m)
	}
	return nil
}

// relatives orders what is published by how likely it shares data with an
// image: newest versions of its name and its parent, then the newest steps
// and the newest versions of other names. For a step, whose name is empty,
// the newest steps come first: what it was made from is among them.
func (r *Repo) relatives(name, parent string) (list []*entry) {
	r.withView(func(v *view) {
		others := v.newestSteps(atOnce)
		versions := map[string]int{} // so far, by name
		for _, e := range v.newest("") {
			versions[e.Image.Name]++
			switch n := versions[e.Image.Name]; {
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

// affordable reports whether the budget, in bytes, has room for the indexes of
// packs that this machine does not have, and reduces it by them.
func (r *Repo) affordable(packs []packRef, budget *int64) bool {
	var cost int64
	for _, p := range packs {
		if _, ok := r.state.get(p.id); !ok {
			cost += p.index
		}
	}
	if cost > *budget {
		return false
	}
	*budget -= cost
	return true
}

// addIndexes reads the indexes of packs and adds them to k, but for damaged ones.
func (r *Repo) addIndexes(ctx context.Context, k *known, packs []packRef) error {
	found := make([]*packIndex, len(packs))
	err := forEach(ctx, atOnce, packs, func(ctx context.Context, i int, p packRef) (err error) {
		if !k.have[p.id] {
			found[i], err = r.indexOf(ctx, p)
		}
		if errors.Is(err, ErrDamaged) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, x := range found {
		if x != nil {
			k.add(packs[i], x)
		}
	}
	return nil
}

// doomed returns the files in the lists of the collections from the epoch on,
// which these were going to delete. A list that can't be read is an error: it
// could name any file.
func (r *Repo) doomed(ctx context.Context, epoch int) (map[fileID]bool, error) {
	var lists []fileID
	r.withView(func(v *view) { lists = v.dooms[min(epoch, len(v.dooms)):] })
	all := map[fileID]bool{}
	var mu sync.Mutex
	return all, forEach(ctx, atOnce, lists, func(ctx context.Context, _ int, id fileID) error {
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

// packCheck is the last answer to whether a pack that no version may need yet
// can be relied on. It holds for a push of the same epoch. A pack that is gone
// never comes back.
type packCheck struct {
	epoch  int
	usable bool
}

// usablePacks returns those packs of earlier pushes that the repository has in
// whole and that no collection up to the epoch is about to delete.
func (r *Repo) usablePacks(ctx context.Context, sent []sentPack, epoch int) (packs []packRef, err error) {
	if err := r.checkPacks(ctx, sent, epoch); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range sent {
		if r.checked[p.ID] == (packCheck{epoch, true}) {
			packs = append(packs, p.ref())
		}
	}
	return packs, nil
}

// checkPacks asks the repository for packs, unless it has answered already, and
// notes its answers in r.checked.
func (r *Repo) checkPacks(ctx context.Context, sent []sentPack, epoch int) error {
	r.mu.Lock()
	sent = slices.DeleteFunc(slices.Clone(sent), func(p sentPack) bool {
		c, ok := r.checked[p.ID]
		return ok && (!c.usable || c.epoch == epoch)
	})
	r.mu.Unlock()
	if len(sent) == 0 {
		return nil
	}
	first := slices.MinFunc(sent, func(a, b sentPack) int { return a.Epoch - b.Epoch })
	doomed, err := r.doomed(ctx, first.Epoch)
	if err != nil {
		return ctx.Err() // sending a pack again does no harm
	}
	return forEach(ctx, atOnce, sent, func(ctx context.Context, _ int, p sentPack) error {
		info, err := r.files.Stat(ctx, p.ref().path())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.checked[p.ID] = packCheck{epoch, err == nil && info.Size() == p.Data+p.Index && !doomed[p.ID]}
		return nil
	})
}
