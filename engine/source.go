package engine

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"b9.build/b9/engine/store"
)

// World is what a Source may read the outside through.
type World struct {
	Store   *store.Store
	Offline bool // no network: a source that needs it uses what it last saw, or fails
	Refresh bool // ask remote sources again even when the last answer is recent

	Services []any // what the program lets actions reach, see Service

	tools *toolTable // of the engine; nil without one
}

// Service returns the service of type T that the program gave the engine in
// [Config]. An action is a struct of plain values; what it needs beside its
// inputs and the store, such as a list of repositories, it asks for by type.
func Service[T any](w *World) (service T, ok bool) {
	for _, s := range w.Services {
		if service, ok = s.(T); ok {
			return service, true
		}
	}
	return service, false
}

// FileSource is one regular file of the host, read in place. Only its
// content counts, never its path, permissions, owner or times.
type FileSource struct {
	Path string `key:"-"` // absolute
	Rel  string `key:"-"` // as the build file names it, for messages
}

// Reads implements Told.
func (f *FileSource) Reads() string { return "file " + f.Rel }

// Kind implements Action.
func (f *FileSource) Kind() string { return "source-file/1" }

// Run implements Action; a located source is never run.
func (f *FileSource) Run(context.Context, *Job) error { return errLocatedRun }

// Locate implements Located.
func (f *FileSource) Locate() (string, store.Kind) { return f.Path, store.File }

// Fingerprint implements Source. A missing file, a directory or a device is an error.
func (f *FileSource) Fingerprint(ctx context.Context, w *World) (store.Digest, error) {
	d, _, err := w.Store.FileDigest(ctx, f.Path)
	if err != nil {
		return store.Digest{}, fmt.Errorf("source file %s: %w", f.Rel, err)
	}
	return d, nil
}

// TreeSource is a directory of the host: names, contents, the texts of symbolic
// links, and which files are programs count; nothing else does, and steps see
// nothing else of it.
type TreeSource struct {
	Path    string   `key:"-"` // absolute
	Rel     string   `key:"-"` // as the build file names it, for messages
	Exclude []string // path.Match patterns, against the whole relative path or any one name in it; after a slash, against the path alone
}

// Reads implements Told.
func (t *TreeSource) Reads() string { return "directory " + t.Rel }

// Kind implements Action.
func (t *TreeSource) Kind() string { return "source-tree/2" }

// Run implements Action: it copies what is not excluded. A directory that was
// changed meanwhile is an error, for the copy might be recorded as what it is not.
func (t *TreeSource) Run(ctx context.Context, job *Job) error {
	d, err := job.World().Store.CopyTree(ctx, t.Path, job.Output(""), job.Epoch(), t.skip)
	if err == nil && d != job.Fingerprint() {
		err = fmt.Errorf("source directory %s was changed while it was copied: nothing was stored, build again", t.Rel)
	}
	return err
}

// Locate implements Located. A tree with exclusions is copied, so that no
// step can see what is not in its key.
func (t *TreeSource) Locate() (string, store.Kind) {
	if len(t.Exclude) > 0 {
		return "", store.Tree
	}
	return t.Path, store.Tree
}

// Fingerprint implements Source.
func (t *TreeSource) Fingerprint(ctx context.Context, w *World) (store.Digest, error) {
	d, err := w.Store.TreeDigest(ctx, t.Path, t.skip)
	if err != nil {
		return store.Digest{}, fmt.Errorf("source directory %s: %w", t.Rel, err)
	}
	return d, nil
}

// Refingerprint implements Moving: the directory may have been edited since.
func (t *TreeSource) Refingerprint(ctx context.Context, w *World, _ store.Digest) (store.Digest, error) {
	return t.Fingerprint(ctx, w)
}

// Excludes reports whether what lies at a slash-separated path below the directory is
// no part of it: it or a directory on the way to it is excluded.
func (t *TreeSource) Excludes(rel string) bool {
	for ; rel != "." && rel != "/"; rel = path.Dir(rel) {
		if t.skip(rel, false) {
			return true
		}
	}
	return false
}

// skip reports whether the entry at the slash-separated relative path is excluded.
func (t *TreeSource) skip(rel string, _ bool) bool {
	for _, pattern := range t.Exclude {
		whole, anchored := strings.CutPrefix(pattern, "/")
		if ok, _ := path.Match(whole, rel); ok {
			return true
		}
		if ok, _ := path.Match(pattern, path.Base(rel)); ok && !anchored {
			return true
		}
	}
	return false
}

var errLocatedRun = errors.New("a located source is read in place and never run")
