package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
)

// Pull makes dst a sparse file with the content of v, which came from List,
// Resolve or Push, or has at least Name and Digest. Every block is verified
// before it is used, and the whole by v.Digest at the end; dst is replaced
// only then, by a rename. If dst has that content already, nothing is done; dst
// is not even read when an earlier pull made it and it did not change. What an
// interrupted pull to the same dst had fetched is used again. A version of the
// forerunner has no digest: it is fetched in whole and can't be verified.
func (r *Repo) Pull(ctx context.Context, v Version, dst string, opts PullOptions) (t Transfer, err error) {
	defer wrap(&err, "pull %s from %s", v.Name, r.loc)
	if r.old != nil {
		return r.old.pull(ctx, r, v, dst)
	}
	var id fileID // of the manifest
	t, err = r.fetch(ctx, v.Name, v.Digest, dst, opts, func() (*manifest, int, error) {
		if err := r.sync(ctx); err != nil {
			return nil, 0, err
		}
		return r.described(ctx, v, &id)
	})
	return t, r.unlessGone(ctx, id, err)
}

// described returns the manifest of a version, and sets id to its ID.
func (r *Repo) described(ctx context.Context, v Version, id *fileID) (*manifest, int, error) {
	e, err := r.entryOf(v)
	if err != nil {
		return nil, 0, err
	}
	*id = e.Recipe.ID
	m, err := r.manifestOf(ctx, e.Recipe)
	if err != nil {
		return nil, 0, err
	}
	if len(m.objects) != 1 || m.objects[0].digest != v.Digest {
		return nil, 0, fmt.Errorf("%s: %w: it describes another content", e.Recipe.path(), ErrDamaged)
	}
	return m, 0, nil
}

// Fetch makes dst the content of a step's object, as [Repo.Pull] does.
func (r *Repo) Fetch(ctx context.Context, o Object, dst string, opts PullOptions) (t Transfer, err error) {
	defer wrap(&err, "fetch %s of a step from %s", o.Name, r.loc)
	t, err = r.fetch(ctx, o.Name, o.Digest, dst, opts, func() (*manifest, int, error) {
		m, err := r.manifestOf(ctx, o.recipe)
		if err != nil {
			return nil, 0, err
		}
		for i := range m.objects {
			if m.objects[i].name == o.Name && m.objects[i].digest == o.Digest {
				return m, i, nil
			}
		}
		return nil, 0, fmt.Errorf("%s: %w: it has no object %s", o.recipe.path(), ErrDamaged, o.Name)
	})
	return t, r.unlessGone(ctx, o.recipe.ID, err)
}

// fetch makes dst the content with digest d. find is asked for its
// description only if dst is not that content already.
func (r *Repo) fetch(ctx context.Context, name string, d Digest, dst string, opts PullOptions, find func() (*manifest, int, error)) (Transfer, error) {
	dst, err := filepath.Abs(dst)
	if err != nil {
		return Transfer{}, err
	}
	if t, ok := r.isThere(ctx, dst, d, -1); ok {
		return t, nil
	}
	meter := r.newMeter(name, 0)
	m, i, err := find()
	if err != nil {
		return Transfer{}, err
	}
	c := &m.objects[i]
	if t, ok := r.isThere(ctx, dst, d, c.size); ok {
		return t, nil
	}
	meter.resize(c.size)
	err = r.download(ctx, m, c, dst, opts, meter)
	return meter.end(), err
}

// isThere reports whether dst has the content d: by the note of an earlier pull,
// or, if dst has the given size and no note, by reading it.
func (r *Repo) isThere(ctx context.Context, dst string, d Digest, size int64) (Transfer, bool) {
	info, err := os.Lstat(dst)
	if err != nil || !info.Mode().IsRegular() {
		return Transfer{}, false
	}
	known, ok := r.state.pulledTo(dst)
	if ok || size < 0 {
		return Transfer{Total: info.Size(), Reused: info.Size()}, ok && known == d
	}
	if info.Size() != size {
		return Transfer{}, false
	}
	found, _, err := digest.Path(ctx, dst, 0)
	// What is on the disk alone can be told by its state after a power loss.
	if err != nil || found != d || syncPath(dst) != nil {
		return Transfer{}, false
	}
	r.state.setPulled(dst, info, d)
	return Transfer{Total: size, Reused: size}, true
}

// download fetches c into a file beside dst, and renames it when it is whole.
func (r *Repo) download(ctx context.Context, m *manifest, c *content, dst string, opts PullOptions, meter *meter) error {
	f, err := openPartial(dst)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := hasRoom(f, c); err != nil {
		return err
	}
	if err := r.fillAll(ctx, m, c, f, append([]string{dst}, opts.Bases...), meter); err != nil {
		return err
	}
	if err := verify(ctx, r.opts.workers, f, c); err != nil {
		if errors.Is(err, ErrDamaged) {
			os.Remove(f.Name())
		}
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), dst); err != nil {
		return err
	}
	if err := newfile.SyncDir(filepath.Dir(dst)); err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil {
		r.state.setPulled(dst, info, c.digest)
	}
	return nil
}

// syncPath brings a file to the disk.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// openPartial opens the file that becomes dst, with what an interrupted pull
// left in it. While another process uses it a new one is made.
func openPartial(dst string) (*os.File, error) {
	dir, base := filepath.Split(dst)
	path := filepath.Join(dir, "."+base+".b9-pull")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
	if errors.Is(err, fs.ErrPermission) {
		return newPartial(dst) // it is somebody else's
	}
	if err != nil {
		return nil, err
	}
	if ok, _ := flock.Try(f, flock.Exclusive); ok && isAt(f, path) {
		return f, nil
	}
	f.Close()
	return newPartial(dst)
}

// newPartial makes a file that becomes dst, and locks it, because b9 removes the
// ones without a lock.
func newPartial(dst string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(dst), "."+filepath.Base(dst)+".b9-pull-*")
	if err == nil {
		_, _ = flock.Try(f, flock.Exclusive) // nobody else knows it
	}
	return f, err
}

// isAt reports whether path still names f: another pull may have renamed it before
// this one got the lock.
func isAt(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && a.Mode().IsRegular() && os.SameFile(a, b)
}
