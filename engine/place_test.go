package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

func place(t *testing.T, p *engine.Placer, a *engine.Artifact, rel string) string {
	t.Helper()
	r, err := p.Place(context.Background(), a, rel, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return r.Path
}

func inode(t *testing.T, path string) os.FileInfo {
	t.Helper()
	st, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func TestPlaceLeavesWhatIsThereAndMendsWhatWasChanged(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	path := place(t, engine.NewPlacer(out), a, "sub/a.txt")
	first := inode(t, path)
	if place(t, engine.NewPlacer(out), a, "sub/a.txt"); !os.SameFile(first, inode(t, path)) {
		t.Error("an unchanged result was placed again")
	}
	if err := os.WriteFile(path, []byte("edited"), 0o644); err != nil {
		t.Fatal(err)
	}
	place(t, engine.NewPlacer(out), a, "sub/a.txt")
	if data, err := os.ReadFile(path); err != nil || string(data) != "result" {
		t.Errorf("after an edit: %q, %v", data, err)
	}
	if mode := inode(t, path).Mode(); mode != 0o644 {
		t.Errorf("mode %v, want 0644", mode)
	}
	left, err := filepath.Glob(filepath.Join(out, ".b9-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files left: %v %v", left, err)
	}
	if n, err := engine.RemoveResults(out); n != 1 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if _, err := os.Lstat(out); !os.IsNotExist(err) {
		t.Errorf("the emptied directory: %v", err)
	}
}

// plant makes a tree with one file.
type plant struct{ Name string }

func (p *plant) Kind() string { return "plant/1" }

func (p *plant) Run(_ context.Context, job *engine.Job) error {
	if err := os.Mkdir(job.Output(""), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(job.Output(""), p.Name), []byte(p.Name), 0o600)
}

func TestPlaceTreeReplacesTheOldOne(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.dir, "out")
	for _, name := range []string{"old", "new"} {
		n, err := engine.NewNode(&plant{name}, engine.NodeOptions{Label: "//:t", Outputs: []engine.Output{{Kind: store.Tree}}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := b.engine(engine.Config{}).Build(context.Background(), n.Ref(""))
		if err != nil {
			t.Fatal(err)
		}
		dir := place(t, engine.NewPlacer(out), r.Artifact(n.Ref("")), "t")
		first := inode(t, dir)
		if place(t, engine.NewPlacer(out), r.Artifact(n.Ref("")), "t"); !os.SameFile(first, inode(t, dir)) {
			t.Error("an unchanged tree was placed again")
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		place(t, engine.NewPlacer(out), r.Artifact(n.Ref("")), "t")
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != name {
			t.Errorf("placed %v (%v), want only %s", entries, err, name)
		}
	}
}

func TestPlaceStaysBeneathItsDirectory(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	for _, rel := range []string{"../a", "/a", "x/../../a"} {
		if _, err := engine.NewPlacer(b.dir).Place(context.Background(), a, rel, 0); err == nil {
			t.Errorf("%q was placed", rel)
		}
	}
}

func TestPlacerClearsAwayWhatDeadOnesLeft(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	dead := filepath.Join(out, ".b9-staging-123", "half")
	if err := os.MkdirAll(dead, 0o755); err != nil {
		t.Fatal(err)
	}
	living := engine.NewPlacer(out)
	if _, err := living.Place(context.Background(), a, "one", 0); err != nil {
		t.Fatal(err)
	}
	place(t, engine.NewPlacer(out), a, "two")
	left, err := filepath.Glob(filepath.Join(out, ".b9-*"))
	if err != nil || len(left) != 1 {
		t.Errorf("staging directories %v (%v), want that of the living placer", left, err)
	}
	if err := living.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	place(t, engine.NewPlacer(out), a, "sub/a")
	mine := filepath.Join(out, "sub", "mine")
	if err := os.WriteFile(mine, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.NewPlacer(out).Place(context.Background(), a, "sub/mine", 0); err == nil {
		t.Error("a file of the user's was replaced")
	}
	if n, err := engine.RemoveResults(out); n != 1 || err != nil {
		t.Errorf("removed %d results, %v", n, err)
	}
	if data, err := os.ReadFile(mine); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
}

// What a killed build had placed without writing it down is b9's.
func TestPlacedByAKilledBuild(t *testing.T) {
	b := newBench(t)
	ref := node(t, "//:a", &join{Text: "result"})
	a := b.build(b.engine(engine.Config{}), ref, 1, 0, "result").Artifact(ref)
	out := filepath.Join(b.dir, "out")
	if _, err := engine.NewPlacer(out).Place(context.Background(), a, "a", 0); err != nil {
		t.Fatal(err)
	}
	place(t, engine.NewPlacer(out), a, "a") // the one before was never closed
}
