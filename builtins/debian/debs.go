package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/store"
)

// debCache keeps downloaded packages, each as DIGEST/NAME.deb under its own
// SHA-256, so that several bootstraps may add, use and drop packages at once.
// It is not forced to the disk. The hook that hands packages to apt hashes
// them, so that one that a power loss or anything else has damaged is had anew.
type debCache struct{ dir string }

// What is kept of packages: those that were used lately, up to a size in bytes.
const (
	debAge   = 60 * 24 * time.Hour
	debSpace = 4 << 30
)

// adopt moves the packages of a directory into the cache. Those that came
// from it are marked as used.
func (c debCache) adopt(ctx context.Context, archives string) error {
	names, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, path := range names {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := c.add(path); err != nil {
			return err
		}
	}
	return nil
}

func (c debCache) add(path string) error {
	sum, err := fileSum(path)
	if err != nil {
		return err
	}
	dir := filepath.Join(c.dir, hex.EncodeToString(sum))
	if err := store.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	now := time.Now()
	err = errors.Join(os.Rename(path, filepath.Join(dir, filepath.Base(path))), os.Chtimes(dir, now, now))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process has just dropped it: it will be downloaded again
	}
	return err
}

func fileSum(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// cachedDeb is one package of the cache.
type cachedDeb struct {
	dir  string
	used time.Time
	size int64
}

// trim drops packages that were not used for debAge, and the ones that were
// not used for longest while all together are larger than debSpace.
func (c debCache) trim(now time.Time, age time.Duration, space int64) error {
	list, err := c.list()
	if err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b cachedDeb) int { return b.used.Compare(a.used) })
	var errs []error
	var total int64
	for _, d := range list {
		total += d.size
		if total > space || now.Sub(d.used) > age {
			errs = append(errs, os.RemoveAll(d.dir))
		}
	}
	return errors.Join(errs...)
}

func (c debCache) list() ([]cachedDeb, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, err
	}
	var list []cachedDeb
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || len(e.Name()) != 2*sha256.Size || strings.Trim(e.Name(), "0123456789abcdef") != "" {
			continue
		}
		d := cachedDeb{dir: filepath.Join(c.dir, e.Name()), used: info.ModTime()}
		files, _ := os.ReadDir(d.dir)
		for _, f := range files {
			if info, err := f.Info(); err == nil {
				d.size += info.Size()
			}
		}
		list = append(list, d)
	}
	return list, nil
}
