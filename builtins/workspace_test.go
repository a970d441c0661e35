package builtins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
	"b9.build/b9/builtins/lang"
)

// TestLoadingIsLazy asks for one package beside broken ones.
func TestLoadingIsLazy(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{
		lang.RootFile:            "",
		"good/" + lang.BuildFile: `load("//lib:a.star", "x"); file(name = "good", content = x, src = None)`,
		"lib/a.star":             `x = "x"`,
		"bad/" + lang.BuildFile:  `syntax error`,
	})
	w, err := openTest(context.Background(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(context.Background(), []string{"//good"}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(readFiles(w), ", "); got != "good/B9BUILD.star, lib/a.star" {
		t.Errorf("read %s", got)
	}
}

// readFiles lists the build files that evaluation has read, below the root.
func readFiles(w *lang.Workspace) []string {
	var read []string
	for _, s := range w.Stamps() {
		if rel, ok := strings.CutPrefix(s.Path, w.Root()+"/"); ok && strings.HasSuffix(rel, ".star") {
			read = append(read, rel)
		}
	}
	return read
}

// TestRepeatedResolve asks the same workspace twice: each declaration keeps
// its node, and mistakes found once are found again.
func TestRepeatedResolve(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{
		lang.RootFile:  "",
		lang.BuildFile: "a = file(name = \"a\", content = \"\")\nfile(name = \"b\", src = a)\nfile(name = \"c\", src = \":nope\")",
	})
	w, err := openTest(context.Background(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	a, errA := w.Resolve(ctx, []string{"//:a"})
	b, errB := w.Resolve(ctx, []string{"//:b"})
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	if in := b.Targets[0].Refs[0].Node.Inputs()[0].Ref; in != a.Targets[0].Refs[0] {
		t.Errorf("two nodes for one declaration")
	}
	for range 2 {
		_, err := w.Resolve(ctx, []string{"//:c"})
		if want := `B9BUILD.star:3:1: file(): src: B9BUILD.star has no target "nope" (have a, b, c)`; err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
	}
}

// TestParallelLoading loads many files that all load the same few, at once,
// some of which load each other in a circle.
func TestParallelLoading(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{lang.RootFile: "", "lib/ok.star": "load(\"//lib:base.star\", \"x\")\ny = x", "lib/base.star": "x = 1"}
	for i := range 40 {
		files[fmt.Sprintf("p%02d/B9BUILD.star", i)] = "load(\"//lib:ok.star\", \"y\")\nfile(name = \"t\", content = str(y))"
		files[fmt.Sprintf("ring/r%02d.star", i)] = fmt.Sprintf("load(\":r%02d.star\", other = \"x\")\nx = 1", (i+1)%40)
		files[fmt.Sprintf("q%02d/B9BUILD.star", i)] = fmt.Sprintf("load(\"//ring:r%02d.star\", \"x\")", i)
	}
	builtinstest.WriteWorkspace(t, root, files)
	for range 20 {
		w, err := openTest(context.Background(), lang.Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Resolve(context.Background(), []string{"//..."})
		var all lang.Errors
		if !errors.As(err, &all) || len(all) != 1 {
			t.Fatalf("got %v, want one cycle", err)
		}
		if !strings.HasPrefix(err.Error(), "ring/r00.star:1:6: load cycle: ring/r00.star -> ring/r01.star -> ") {
			t.Fatalf("got %v", err)
		}
	}
}

// TestBuildFileThatIsNoFile must not wait for a pipe or read a directory.
func TestBuildFileThatIsNoFile(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{lang.RootFile: "", "a/B9BUILD.star/x": ""})
	if err := os.Symlink("/dev/zero", filepath.Join(root, lang.BuildFile)); err != nil {
		t.Fatal(err)
	}
	w, err := openTest(context.Background(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(context.Background(), []string{"//:x", "//a"})
	want := "B9BUILD.star:1:1: cannot be read: it is not a regular file\na/B9BUILD.star:1:1: cannot be read: it is not a regular file"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// TestReleasedWorkspace: what a build asks afterwards has the same answers, and of what
// was evaluated next to nothing is held.
func TestReleasedWorkspace(t *testing.T) {
	const packages, targets = 40, 50
	root := t.TempDir()
	files := map[string]string{lang.RootFile: "", "src.txt": "", "lib/a.star": "x = 1"}
	for i := range packages {
		files[fmt.Sprintf("p%d/%s", i, lang.BuildFile)] = fmt.Sprintf(`load("//lib:a.star", "x")
def chain():
    last = file(name = "t0", src = "//:src.txt")
    for i in range(1, %d):
        last = template(name = "t%%d" %% i, content = "${before}%%d" %% i, vars = {"before": last})
chain()
`, targets)
	}
	builtinstest.WriteWorkspace(t, root, files)
	before := heap()
	w, err := openTest(t.Context(), lang.Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := w.Resolve(t.Context(), []string{"//..."})
	if err != nil {
		t.Fatal(err)
	}
	made := g.Detach()
	labels := map[string]string{"p0/t0": "//p0:t0", "p0/old": "//p0:old", "p1/elsewhere": "//p1:t1", "gone": "//gone:x"}
	ask := func() string {
		return fmt.Sprint(w.Leftovers(labels), w.Evaluated("//p1:t1"), w.Mistaken("//p1:t1"), w.Parts(), w.Listed(), w.Partial())
	}
	was, held := ask(), heap()
	g = nil
	w.Release()
	w.Release()
	if now := ask(); now != was {
		t.Errorf("asked before: %s\nand after: %s", was, now)
	}
	if len(made.Targets) != packages*targets || len(made.All) != packages*targets+1 || made.Targets[0].Title != "//p0:t0" || made.Targets[0].File != "p0/"+lang.BuildFile {
		t.Errorf("%d targets, %d placed, first %+v", len(made.Targets), len(made.All), made.Targets[0])
	}
	if released := heap(); released-before > (held-before)*2/3 {
		t.Errorf("%d bytes a target, and %d when it is released", (held-before)/packages/targets, (released-before)/packages/targets)
	}
	runtime.KeepAlive(made)
	if _, err := w.Resolve(t.Context(), []string{"//p0"}); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("resolved again: %v", err)
	}
}

// heap is how many bytes are in use.
func heap() int64 {
	var m runtime.MemStats
	for range 2 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
