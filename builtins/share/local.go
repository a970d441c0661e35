package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// LocalImages are the shared images that this machine has: what share()
// published and `b9 pull` fetched. A content is an object of the store, which
// holds it once whatever else uses it, and which collection leaves alone
// because it is named here. Several processes may use them at once.
type LocalImages struct {
	st  *store.Store
	dir string
}

// The files of LocalImages.
const (
	localList = "images.json"
	localLock = "lock"
)

// localLabel names the contents in the store, see [store.Store.NameResult].
const localLabel = "shared images"

// LocalDir is where a store's directory has the list of shared images.
func LocalDir(store string) string { return filepath.Join(store, "shared") }

// OpenLocal opens the shared images of the machine that uses the store.
func OpenLocal(st *store.Store) (*LocalImages, error) {
	l := &LocalImages{st: st, dir: LocalDir(st.Dir())}
	if err := store.MkdirAll(l.dir, 0o700); err != nil {
		return nil, err
	}
	return l, nil
}

// Location returns where the list of images is.
func (l *LocalImages) Location() repo.Location { return repo.Location{Path: l.dir} }

// Close ends the use. There is nothing to be given up.
func (l *LocalImages) Close() error { return nil }

// List returns the versions of an image, or of all if name is empty, newest first.
func (l *LocalImages) List(_ context.Context, name string) ([]repo.Version, error) {
	all, err := l.read()
	if err != nil {
		return nil, err
	}
	slices.Reverse(all)
	return slices.DeleteFunc(all, func(v repo.Version) bool { return name != "" && v.Name != name }), nil
}

// Resolve returns the version that s chooses. The error wraps
// [repo.ErrNotFound] if there is none.
func (l *LocalImages) Resolve(ctx context.Context, s repo.Selector) (repo.Version, error) {
	all, err := l.List(ctx, "")
	if err != nil {
		return repo.Version{}, err
	}
	var names, versions []string
	for _, v := range all {
		if v.Name == s.Name && (s.Version == "" || v.Version == s.Version) && (s.Digest.IsZero() || v.Digest == s.Digest) {
			return v, nil
		}
		if v.Name == s.Name {
			versions = append(versions, v.Version)
		}
		if !slices.Contains(names, v.Name) {
			names = append(names, v.Name)
		}
	}
	have := lang.Suggest(lang.Listed(names), s.Name, names)
	switch {
	case names == nil:
		have = "it has none: a share() in a build file publishes one, `b9 pull` fetches one"
	case versions != nil:
		have = lang.Suggest(lang.Listed(versions), s.Version, versions)
	}
	return repo.Version{}, fmt.Errorf("%s is %w of this machine (%s)", s, repo.ErrNotFound, have)
}

// Present is no error if the content of a version is there; else the error says what to do.
func (l *LocalImages) Present(v repo.Version) error {
	if o, ok := l.object(v); !ok || !l.st.Has(o) {
		return fmt.Errorf("%s@%s: its content is not in the store any more: build it or pull it again", v.Name, v.Version)
	}
	return nil
}

// PushSpec asks for a version to be published in a repository.
func (l *LocalImages) PushSpec(v repo.Version) (repo.PushSpec, error) {
	spec := pushSpec(v)
	spec.Objects = l.st
	return spec, l.Present(v)
}

func (l *LocalImages) object(v repo.Version) (store.Object, bool) {
	return store.Object{Kind: store.File, Digest: v.Digest, Size: v.Size}, !v.Digest.IsZero()
}

// Add publishes an object of the store as v, of which it sets the digest, the
// size and, where they are missing, the time and the version: if the newest
// version has the same content and format it is returned and nothing is added.
// A version that exists with another content gives [repo.ErrVersionTaken].
// v becomes the newest of its name, but for the versions that newer lists:
// those that are newer where v comes from.
func (l *LocalImages) Add(ctx context.Context, v repo.Version, o store.Object, newer ...string) (repo.Version, error) {
	if !l.st.Has(o) {
		return v, fmt.Errorf("%s: %w", o, store.ErrNotInStore)
	}
	data := l.st.Data(o)
	if v.Data == 0 || v.Data > data { // a repository knows better, unless it is one that only knows the size
		v.Data = data
	}
	v.Digest, v.Size = o.Digest, o.Size
	if v.Created.IsZero() {
		v.Created = time.Now()
	}
	v.Created = v.Created.UTC().Truncate(time.Second)
	err := l.edit(ctx, func(all []repo.Version) ([]repo.Version, error) {
		standing, err := l.standing(all, v)
		if standing != nil {
			v = *standing
		}
		if standing != nil || err != nil {
			return all, err
		}
		if v.Version == "" {
			v.Version = v.Created.Format("20060102-150405") + "-" + v.Digest.String()[3:11]
		}
		i := slices.IndexFunc(all, func(have repo.Version) bool { return have.Name == v.Name && slices.Contains(newer, have.Version) })
		if i < 0 {
			i = len(all)
		}
		return slices.Insert(all, i, v), nil
	})
	return v, err
}

// standing is the version that makes adding v needless.
func (l *LocalImages) standing(all []repo.Version, v repo.Version) (*repo.Version, error) {
	for i, have := range slices.Backward(all) {
		if have.Name != v.Name || v.Version != "" && have.Version != v.Version {
			continue
		}
		if have.Digest == v.Digest && have.Format == v.Format {
			return &all[i], nil
		}
		if v.Version != "" {
			return nil, fmt.Errorf("%s@%s: %w (%s, this is %s): choose another version", v.Name, v.Version, repo.ErrVersionTaken, have.Digest, v.Digest)
		}
		return nil, nil // the newest is another image
	}
	return nil, nil
}

// dataOf is how much of a file is no hole, in bytes.
func dataOf(path string, size int64) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return min(size, info.Sys().(*syscall.Stat_t).Blocks*512), nil
}

// Clean forgets all but the newest o.Keep versions of each name. The store
// frees their contents when it collects and nothing else needs them.
func (l *LocalImages) Clean(ctx context.Context, o repo.CleanOptions) (repo.CleanReport, error) {
	removed, err := l.forget(ctx, func(v repo.Version, newer int) bool { return newer >= o.Keep && o.Keep >= 0 })
	return repo.CleanReport{Removed: removed}, err
}

// CleanName forgets all but the newest keep versions of one name, and those to spare,
// whatever their place. It returns what went, oldest first.
func (l *LocalImages) CleanName(ctx context.Context, name string, keep int, spare ...string) ([]repo.Version, error) {
	return l.forget(ctx, func(v repo.Version, newer int) bool {
		return v.Name == name && newer >= keep && !slices.Contains(spare, v.Version)
	})
}

// forget takes those versions out for which old is true: newer is how many of the name
// are newer. It returns them, oldest first.
func (l *LocalImages) forget(ctx context.Context, old func(v repo.Version, newer int) bool) (removed []repo.Version, err error) {
	err = l.edit(ctx, func(all []repo.Version) ([]repo.Version, error) {
		seen := map[string]int{}
		var kept []repo.Version
		for _, v := range slices.Backward(all) {
			if old(v, seen[v.Name]) {
				removed = append(removed, v)
			} else {
				kept = append(kept, v)
			}
			seen[v.Name]++
		}
		slices.Reverse(kept)
		slices.Reverse(removed)
		return kept, nil
	})
	return removed, err
}

// Remove forgets a version; see Clean.
func (l *LocalImages) Remove(ctx context.Context, v repo.Version) error {
	return l.edit(ctx, func(all []repo.Version) ([]repo.Version, error) {
		return slices.DeleteFunc(all, func(have repo.Version) bool { return have.Name == v.Name && have.Version == v.Version }), nil
	})
}

// Check lists the versions whose content is gone or, with deep, another.
func (l *LocalImages) Check(ctx context.Context, deep bool) ([]repo.Damage, error) {
	all, err := l.read()
	var found []repo.Damage
	for _, v := range all {
		what, err := l.fault(ctx, v, deep)
		if err != nil {
			return found, err
		}
		if what != "" {
			found = append(found, repo.Damage{Path: l.st.Path(v.Digest), What: what, Hurts: []string{v.Ref()}})
		}
	}
	return found, err
}

// fault says what is wrong with the content of a version; "" if nothing is.
func (l *LocalImages) fault(ctx context.Context, v repo.Version, deep bool) (string, error) {
	o, ok := l.object(v)
	if !ok || !l.st.Has(o) {
		return "it is missing", nil
	}
	if !deep {
		return "", nil
	}
	d, err := l.st.Rehash(ctx, o.Digest)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return "it is missing", nil
	case err != nil:
		return err.Error(), nil
	case d != o.Digest:
		return "its content is not what its name says", nil
	}
	return "", nil
}

// read returns the versions, oldest first.
func (l *LocalImages) read() ([]repo.Version, error) {
	path := filepath.Join(l.dir, localList)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []repo.Version
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w: remove it, then pull or build the shared images again", path, err)
	}
	return all, nil
}

// edit changes the list. What it names is kept from collection before it
// appears, and until after it has gone.
func (l *LocalImages) edit(ctx context.Context, change func([]repo.Version) ([]repo.Version, error)) error {
	lock, err := l.st.LockFile(ctx, filepath.Join(l.dir, localLock), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer lock.Close()
	before, err := l.read()
	if err != nil {
		return err
	}
	after, err := change(slices.Clone(before))
	if err != nil {
		return err
	}
	if err := l.keep(append(slices.Clone(before), after...)); err != nil {
		return err
	}
	data, err := json.MarshalIndent(after, "", "  ")
	if err != nil {
		return err
	}
	if len(after) != len(before) {
		if err := l.st.ReplaceFile(filepath.Join(l.dir, localList), append(data, '\n')); err != nil {
			return err
		}
	}
	return l.keep(after)
}

// keep names exactly these contents in the store.
func (l *LocalImages) keep(all []repo.Version) error {
	var objects []store.Object
	for _, v := range all {
		if o, ok := l.object(v); ok {
			objects = append(objects, o)
		}
	}
	slices.SortFunc(objects, func(a, b store.Object) int { return slices.Compare(a.Digest[:], b.Digest[:]) })
	return l.st.NameResult(l.dir, localLabel, slices.Compact(objects))
}
