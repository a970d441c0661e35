package engine_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// grove makes a tree with one file.
type grove struct{}

func (grove) Kind() string { return "grove/1" }

func (grove) Run(_ context.Context, job *engine.Job) error {
	dir := job.Output("")
	return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "leaf"), []byte("green"), 0o644))
}

// walker reads the tree of its input at a path, and hands that on.
type walker struct {
	Fail bool
	Path *string `key:"-"`
}

func (*walker) Kind() string { return "walker/1" }

func (w *walker) Run(ctx context.Context, job *engine.Job) error {
	x, err := job.Expose(ctx, "0")
	if err != nil {
		return err
	}
	again, err := job.Expose(ctx, "0")
	if err != nil {
		return err
	}
	if again.Path != x.Path {
		return errors.New("the tree was written out twice")
	}
	*w.Path = x.Path
	data, err := os.ReadFile(filepath.Join(x.Path, "leaf"))
	if err == nil && w.Fail {
		err = errors.New("it fails")
	}
	return errors.Join(err, os.WriteFile(job.Output(""), data, 0o600))
}

func treeNode(t *testing.T) engine.Ref {
	t.Helper()
	n, err := engine.NewNode(grove{}, engine.NodeOptions{Label: "//:grove", Outputs: []engine.Output{{Kind: store.Tree}}})
	if err != nil {
		t.Fatal(err)
	}
	return n.Ref("")
}

func TestATreeIsExposedUntilItIsClosed(t *testing.T) {
	b := newBench(t)
	ref := treeNode(t)
	r, err := b.engine(engine.Config{}).Build(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Artifact(ref)
	x, err := a.Expose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(x.Path, "leaf")); err != nil || string(data) != "green" {
		t.Errorf("the tree has %q (%v)", data, err)
	}
	if err := errors.Join(x.Close(), x.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(x.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there after Close: %v", x.Path, err)
	}
	if _, err := a.Open(); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a tree was opened: %v", err)
	}
}

func TestAStepsTreesLieInItsDirectory(t *testing.T) {
	b := newBench(t)
	var path string
	b.build(b.engine(engine.Config{}), node(t, "//:walk", &walker{Path: &path}, treeNode(t)), 2, 0, "green")
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there after the step: %v", path, err)
	}
	failing := node(t, "//:walk", &walker{Fail: true, Path: &path}, treeNode(t))
	_, err := b.engine(engine.Config{}).Build(t.Context(), failing)
	var step *engine.StepError
	if !errors.As(err, &step) {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(step.Kept, filepath.Base(path), "leaf")); err != nil {
		t.Errorf("the tree was not kept with the failed step: %v", err)
	}
}

func TestAFileIsOpenedWithItsHoles(t *testing.T) {
	b := newBench(t)
	src := b.source(t, "f", "text")
	if err := os.Truncate(filepath.Join(b.dir, "f"), 1<<20); err != nil {
		t.Fatal(err)
	}
	r, err := b.engine(engine.Config{}).Build(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	a := r.Artifact(src)
	f, err := a.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := f.Extent(512 << 10)
	if err != nil || f.Size() != 1<<20 || e.State.String() != "hole" || e.End() != 1<<20 {
		t.Errorf("%d bytes with the extent %+v, %v", f.Size(), e, err)
	}
	if a.Stored() || !a.Key().IsZero() {
		t.Errorf("a source in place is stored (%v) or has the key %s", a.Stored(), a.Key())
	}
	if _, err := a.ReadAll(4); err == nil {
		t.Error("more was read than the limit")
	}
}
