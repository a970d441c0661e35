package share

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"

	"b9.build/b9/engine"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/store"
)

// LockFile is the name of the lock file at the workspace root.
const LockFile = "b9.lock"

// Locked is what one way to ask for a shared image resolved to: an entry of
// the lock file.
type Locked struct {
	Name       string `toml:"name" json:"name"`
	Repository string `toml:"repository" json:"repository"`
	Want       string `toml:"want,omitempty" json:"want,omitempty"` // the version or digest asked for; "" is the newest
	Version    string `toml:"version" json:"version"`
	Digest     string `toml:"digest" json:"digest"`
	Format     string `toml:"format" json:"format"`
}

// same reports whether two entries answer the same question.
func (l Locked) same(o Locked) bool { return l.compare(o) == 0 }

// compare orders entries by the question that they answer.
func (l Locked) compare(o Locked) int {
	return cmp.Or(strings.Compare(l.Name, o.Name), strings.Compare(l.Repository, o.Repository), strings.Compare(l.Want, o.Want))
}

// unverified says that the repository knows no digest of it.
func (l Locked) unverified() bool { return l.Digest == (repo.Digest{}).String() }

// String names what it resolved to for people.
func (l Locked) String() string {
	digest := l.Digest[:min(len(l.Digest), 15)]
	if l.unverified() {
		digest = "(not verified)"
	}
	return fmt.Sprintf("%s@%s %s from %s", l.Name, l.Version, digest, l.Repository)
}

// lockText is what a lock file holds.
type lockText struct {
	Image []Locked `toml:"image"`
}

// maxLock bounds a lock file, in bytes.
const maxLock = 16 << 20

const lockHeader = "# What shared() resolved to. Keep it with the sources; `b9 update` moves it.\n\n"

// readLock reads the lock file of a workspace; one that is missing is empty.
func readLock(root string) ([]Locked, error) {
	path := filepath.Join(root, LockFile)
	data, err := engine.ReadSmall(path, maxLock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := engine.CheckText(path, string(data)); err != nil {
		return nil, err
	}
	entries, err := parseLock(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return entries, nil
}

// parseLock reads the text of a lock file. Its errors begin with the line, if
// that is known, as what follows the file's name.
func parseLock(data []byte) ([]Locked, error) {
	var file lockText
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&file); err != nil {
		return nil, lockSyntax(data, err)
	}
	for _, l := range file.Image {
		if _, err := repo.ParseDigest(l.Digest); err != nil {
			return nil, fmt.Errorf(" image %q: %w", l.Name, err)
		}
		if err := errors.Join(repo.ValidName(l.Name), repo.ValidName(l.Version)); err != nil {
			return nil, fmt.Errorf(" %w", err)
		}
	}
	return file.Image, nil
}

// lockSyntax says where a lock file is wrong, and what to do after a merge
// that left both sides in it.
func lockSyntax(data []byte, err error) error {
	reason := strings.TrimPrefix(err.Error(), "toml: ")
	var at *toml.DecodeError
	if !errors.As(err, &at) {
		return fmt.Errorf(" %s", reason)
	}
	line, column := at.Position()
	if errors.As(err, new(*toml.StrictMissingError)) {
		reason = fmt.Sprintf("unknown key %q", strings.Join(at.Key(), "."))
	}
	if bytes.Contains(data, []byte("\n>>>>>>> ")) {
		reason += ": it has the marks of a merge: keep one side, or remove it and run `b9 build`, which takes the newest"
	}
	return fmt.Errorf("%d:%d: %s", line, column, reason)
}

// addLock adds an entry to the lock file, and returns the one that it then has
// for the question: another process may have been first, with another answer.
func addLock(ctx context.Context, root string, tell func(string), l Locked) (Locked, error) {
	err := editLock(ctx, root, tell, func(all []Locked) []Locked {
		if i := slices.IndexFunc(all, l.same); i >= 0 {
			l = all[i]
			return all
		}
		return append(all, l)
	})
	return l, err
}

// writeLock adds entries to the lock file, in place of those that answer the
// same question.
func writeLock(ctx context.Context, root string, tell func(string), entries ...Locked) error {
	return editLock(ctx, root, tell, func(all []Locked) []Locked {
		for _, e := range entries {
			all = append(slices.DeleteFunc(all, e.same), e)
		}
		return all
	})
}

// editLock replaces the lock file as a whole where that changes something, one
// process after the other: the lock is on the workspace's directory, so that no
// further file is needed, and dies with the process.
func editLock(ctx context.Context, root string, tell func(string), change func([]Locked) []Locked) error {
	lock, err := store.LockFile(ctx, root, os.O_RDONLY, tell)
	if err != nil {
		return err
	}
	defer lock.Close()
	all, err := readLock(root)
	if err != nil {
		return err
	}
	before := slices.Clone(all)
	all = change(all)
	slices.SortFunc(all, Locked.compare)
	if slices.Equal(all, before) {
		return nil
	}
	body, err := toml.Marshal(lockText{all})
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(root, LockFile), append([]byte(lockHeader), body...), 0o644, renameio.WithTempDir(root), renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Join(root, LockFile), err)
	}
	return lock.Sync() // of the directory: the name is on the disk, too
}
