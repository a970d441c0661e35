package builtins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
