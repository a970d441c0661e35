package share

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

const (
	// basesFactor and basesLeast bound how much local data is read to spare
	// fetching an image: so many times its own data, and at least so many bytes.
	basesFactor = 2
	basesLeast  = 256 << 20
	// basesMost bounds how many files are looked at.
	basesMost = 64
	// baseSize is the least that a local image occupies on the disk, in bytes.
	baseSize = 64 << 10
	// pullsAge is how long what an interrupted pull fetched is kept.
	pullsAge = 7 * 24 * time.Hour
)

// Pull makes path, in a scratch directory of the store, the content of v. It
// is fetched from r only as far as no image on this machine has it, and what
// an interrupted pull had fetched is used again. Two processes that want the
// same content wait for each other.
func (l *LocalImages) Pull(ctx context.Context, r *repo.Repo, v repo.Version, path string) (repo.Transfer, error) {
	if v.Digest.IsZero() {
		have, ok, err := l.Pulled(ctx, v)
		if err != nil {
			return repo.Transfer{}, err
		}
		if ok {
			v.Digest = have.Digest
		}
	}
	return l.receive(ctx, r, v, path, func(dst string, o repo.PullOptions) (repo.Transfer, error) { return r.Pull(ctx, v, dst, o) })
}

// Pulled returns the version that this machine has of v, as a repository lists
// it; ok says whether there is one with its content. Where the repository knows
// no digests it is the one of that name, format, size and time: b9 pull, which
// fetched it, took these over.
func (l *LocalImages) Pulled(ctx context.Context, v repo.Version) (have repo.Version, ok bool, err error) {
	have, err = l.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version, Digest: v.Digest})
	if errors.Is(err, repo.ErrNotFound) {
		return have, false, nil
	}
	if err != nil {
		return have, false, err
	}
	if v.Digest.IsZero() && (have.Format != v.Format || have.Size != v.Size || !v.Created.IsZero() && !have.Created.Equal(v.Created.Truncate(time.Second))) {
		return have, false, nil
	}
	return have, l.Present(have) == nil, nil
}

// Fetch makes path the content of a step's object, as Pull does.
func (l *LocalImages) Fetch(ctx context.Context, r *repo.Repo, o repo.Object, path string) error {
	v := repo.Version{Digest: o.Digest, Size: o.Size, Data: o.Size}
	_, err := l.receive(ctx, r, v, path, func(dst string, opts repo.PullOptions) (repo.Transfer, error) { return r.Fetch(ctx, o, dst, opts) })
	return err
}

// receive makes path the content of v, with what get fetches if it has to be.
func (l *LocalImages) receive(ctx context.Context, r *repo.Repo, v repo.Version, path string, get func(dst string, o repo.PullOptions) (repo.Transfer, error)) (t repo.Transfer, err error) {
	name := v.Digest
	if v.Digest.IsZero() { // of a repository that knows none
		name = store.Sum([]byte(r.Location().String() + "\x00" + v.Name + "\x00" + v.Version))
	}
	unlock, err := l.st.LockKey(ctx, name)
	if err != nil {
		return t, err
	}
	defer unlock()
	if o, ok := l.object(v); ok && l.st.Has(o) {
		return repo.Transfer{Total: v.Size, Reused: v.Data, Holes: v.Size - v.Data}, l.st.Fork(ctx, o.Digest, path)
	}
	dir := l.pullsDir()
	if err := store.MkdirAll(dir, 0o700); err != nil {
		return t, err
	}
	if _, err := trimPulls(dir, pullsAge); err != nil {
		return t, err
	}
	bases, err := l.bases(ctx, v)
	if err != nil {
		return t, err
	}
	dst := filepath.Join(dir, hex.EncodeToString(name[:]))
	if t, err = get(dst, repo.PullOptions{Bases: bases}); errors.Is(err, unix.ENOSPC) {
		return t, fmt.Errorf("%w: free some with `b9 cache gc --max-size SIZE`", err)
	} else if err != nil {
		return t, err
	}
	return t, os.Rename(dst, path)
}

// bases lists local images that may share data with v, those first that are
// most likely to: its other versions, what it was made from, and then what
// the store used last.
func (l *LocalImages) bases(ctx context.Context, v repo.Version) ([]string, error) {
	all, err := l.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var own, parents []store.Object
	for _, have := range all {
		o, ok := l.object(have)
		switch {
		case !ok:
		case have.Name == v.Name:
			own = append(own, o)
		case have.Ref() == v.Parent:
			parents = append(parents, o)
		}
	}
	recent, err := l.st.Recent(ctx, baseSize)
	if err != nil {
		return nil, err
	}
	var paths []string
	budget := max(basesFactor*v.Data, basesLeast)
	for _, o := range slices.Concat(own, parents, recent) {
		for _, path := range l.st.Files(o.Digest) {
			data, err := dataOf(path, o.Size)
			if errors.Is(err, fs.ErrNotExist) || slices.Contains(paths, path) || data > budget || len(paths) == basesMost {
				continue
			}
			if err != nil {
				return nil, err
			}
			budget -= data
			paths = append(paths, path)
		}
	}
	return paths, nil
}

func (l *LocalImages) pullsDir() string { return filepath.Join(l.st.Dir(), "cache", "pulls") }

// DropPulls removes what interrupted pulls left, and returns how many bytes
// that took on the disk. Pulls that are under way keep theirs.
func (l *LocalImages) DropPulls() (int64, error) {
	freed, err := trimPulls(l.pullsDir(), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return freed, err
}

// trimPulls removes what pulls left that were interrupted so long ago.
func trimPulls(dir string, age time.Duration) (freed int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < age {
			continue
		}
		path := filepath.Join(dir, e.Name())
		size, err := dataOf(path, info.Size())
		if err == nil && removeUnlocked(path) {
			freed += size
		}
	}
	return freed, nil
}

// removeUnlocked removes a file unless a process holds a lock on it.
func removeUnlocked(path string) bool {
	f, err := store.TryLockFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK)
	if err != nil {
		return false
	}
	defer f.Close()
	return os.Remove(path) == nil
}
