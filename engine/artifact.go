package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/blob"
	"b9.build/b9/engine/store"
)

// Artifact is one output of a finished step, or a located source. How and
// where its content is kept is nobody's business: a file is read through
// [Artifact.Open], copied with [Artifact.Fork], and what needs a path of the
// host gets one from [Artifact.Expose] for as long as it is in use.
type Artifact struct {
	store  *store.Store
	object store.Object
	key    store.Digest // of the step that made it; zero of a located source
	path   string       // of a located source, else empty
	epoch  time.Time    // of what a view of a located source shows
}

// Digest is the content digest.
func (a *Artifact) Digest() store.Digest { return a.object.Digest }

// Kind says whether the artifact is a file or a tree.
func (a *Artifact) Kind() store.Kind { return a.object.Kind }

// Object is the artifact as the store names it.
func (a *Artifact) Object() store.Object { return a.object }

// Key is the key of the step that made the artifact; zero for a located
// source.
func (a *Artifact) Key() store.Digest { return a.key }

// Stored reports whether the content is an object of the store; that of a
// located source is not.
func (a *Artifact) Stored() bool { return a.path == "" }

// Size is the apparent size of a file in bytes.
func (a *Artifact) Size() (int64, error) {
	if a.Stored() {
		return a.object.Size, nil
	}
	st, err := os.Stat(a.path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// data is how many bytes of data the content has, of a file without its holes; 0 where
// it is not known.
func (a *Artifact) data() int64 {
	if a.Stored() {
		return a.store.Data(a.object)
	}
	var st unix.Stat_t
	if a.object.Kind == store.Tree || !statted(unix.Stat, a.path, &st) {
		return 0
	}
	return min(st.Size, st.Blocks*512)
}

// Blob is the open content of a file: its size, bytes at offsets, and which runs
// of them are data, zeros or holes.
type Blob = blob.Blob

// Open opens the content of a file. The caller closes it.
func (a *Artifact) Open() (Blob, error) {
	if a.object.Kind == store.Tree {
		return nil, fmt.Errorf("%s is a directory, which has no content to open", a.object.Digest)
	}
	if err := a.sound(); err != nil {
		return nil, err
	}
	if a.Stored() {
		return a.store.Open(a.object.Digest)
	}
	return blob.Open(a.path)
}

// sound is an error if the store has lost the content, or found it damaged, since
// the step was looked up.
func (a *Artifact) sound() error {
	if a.Stored() && !a.store.Has(a.object) {
		return fmt.Errorf("%s: %w any more: build again", a.object, store.ErrNotInStore)
	}
	return nil
}

// ReadAll reads the content of a file into memory, if it has at most limit
// bytes.
func (a *Artifact) ReadAll(limit int64) ([]byte, error) {
	b, err := a.Open()
	if err != nil {
		return nil, err
	}
	data, err := blob.ReadAll(b, limit)
	return data, errors.Join(err, b.Close())
}

// Fork makes a private writable copy at dst, which must not exist. A file is
// cloned where the file system can; a large one in a step's directory becomes a symbolic
// link to a file in which what is written lies over what the store has; else its data is
// copied and its holes are neither read nor written. A tree of the store comes with its metadata; a
// source directory as its digest says, and the same from every checkout: root
// is the owner of all (this process's user, where that is another), files have
// mode 0644, or 0755 if they are programs, every file one name and the build's time.
func (a *Artifact) Fork(ctx context.Context, dst string) error {
	return a.fork(ctx, dst, store.Placing{})
}

// fork is Fork in the given way, which that of a located source does not know.
func (a *Artifact) fork(ctx context.Context, dst string, how store.Placing) error {
	switch tree := a.object.Kind == store.Tree; {
	case tree && a.Stored():
		return a.store.ExtractPlaced(ctx, a.object.Digest, dst, how)
	case tree:
		return a.copyView(ctx, dst)
	case a.Stored():
		return a.store.ForkPlaced(ctx, a.object.Digest, dst, how)
	}
	return store.CopySparse(ctx, a.path, dst)
}

// Exposed is the content of an artifact at a path of the host: a file or a
// directory that must not be written to, for programs and for code that needs
// a path. The path is good until Close.
type Exposed struct {
	Path    string
	release func() error // works once; nil where nothing has to be given back
}

// Close gives the path up. Further calls return what the first one did.
func (x *Exposed) Close() error {
	if x.release == nil {
		return nil
	}
	return x.release()
}

// Expose gives the content a path, until the caller closes what it returns. A
// tree is written out for that as by [Artifact.Fork], into a scratch directory.
func (a *Artifact) Expose(ctx context.Context) (*Exposed, error) { return a.exposeIn(ctx, "") }

// exposeIn is Expose; what has to be made for a file is made in dir, if that is not "".
func (a *Artifact) exposeIn(ctx context.Context, dir string) (*Exposed, error) {
	if err := a.sound(); err != nil {
		return nil, err
	}
	if a.object.Kind != store.Tree && a.Stored() {
		path, release, err := a.store.Expose(ctx, a.object.Digest, dir)
		if err != nil {
			return nil, err
		}
		return &Exposed{Path: path, release: sync.OnceValue(release)}, nil
	}
	if a.object.Kind != store.Tree {
		return &Exposed{Path: a.path}, nil
	}
	scratch, err := a.store.Scratch("expose " + a.object.Digest.String())
	if err != nil {
		return nil, err
	}
	tree := viewIn(scratch)
	if err := a.Fork(ctx, tree); err != nil {
		return nil, errors.Join(err, scratch.Close())
	}
	return &Exposed{Path: tree, release: sync.OnceValue(scratch.Close)}, nil
}

// outputsOf makes artifacts of the outputs that are recorded under the key of
// s, in the order of its node; nil for a record that does not have what the
// node declares.
func (e *Engine) outputsOf(s *step, recorded []store.Output) []*Artifact {
	list := make([]*Artifact, 0, len(s.node.opts.Outputs))
	for _, want := range s.node.opts.Outputs {
		i := slices.IndexFunc(recorded, func(out store.Output) bool { return out.Name == want.Name && out.Object.Kind == want.Kind })
		if i < 0 {
			return nil
		}
		list = append(list, &Artifact{store: e.cfg.Store, object: recorded[i].Object, key: s.key})
	}
	return list
}

// present reports whether the content of every output can be read now.
func present(list []*Artifact) bool {
	return !slices.ContainsFunc(list, func(a *Artifact) bool { return a.Stored() && !a.store.Has(a.object) })
}
