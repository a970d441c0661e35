package builtins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenSearchesUpwards(t *testing.T) {
	root := t.TempDir()
	writeWorkspace(t, root, map[string]string{RootFile: "", "a/b/c": ""})
	w, err := Open(context.Background(), Config{Dir: filepath.Join(root, "a/b")})
	if err != nil || w.Root() != root || w.dir != "a/b" {
		t.Errorf("got %v, %v", w, err)
	}
}

func TestOpenWithoutWorkspace(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(context.Background(), Config{Dir: dir})
	want := fmt.Sprintf("no workspace: there is no b9.toml in %s or above it: run `b9 init` (or `touch b9.toml`) in the directory that is to be the root", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	_, err = Open(context.Background(), Config{Root: dir})
	want = fmt.Sprintf("no workspace: there is no b9.toml in %s: run `b9 init` (or `touch b9.toml`) there", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
}

// TestLoadingIsLazy asks for one package beside broken ones.
func TestLoadingIsLazy(t *testing.T) {
	root := t.TempDir()
	writeWorkspace(t, root, map[string]string{
		RootFile:            "",
		"good/" + BuildFile: `load("//lib:a.star", "x"); file(name = "good", content = x, src = None)`,
		"lib/a.star":        `x = "x"`,
		"bad/" + BuildFile:  `syntax error`,
	})
	w, err := openTest(context.Background(), Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(context.Background(), []string{"//good"}); err != nil {
		t.Fatal(err)
	}
	var read []string
	for _, r := range w.Reads() {
		read = append(read, r.Kind+" "+r.Path)
	}
	if got := strings.Join(read, ", "); got != "build file good/B9BUILD.star, build file lib/a.star" {
		t.Errorf("read %s", got)
	}
}

// TestRepeatedResolve asks the same workspace twice: each declaration keeps
// its node, and mistakes found once are found again.
func TestRepeatedResolve(t *testing.T) {
	root := t.TempDir()
	writeWorkspace(t, root, map[string]string{
		RootFile:  "",
		BuildFile: "a = file(name = \"a\", content = \"\")\nfile(name = \"b\", src = a)\nfile(name = \"c\", src = \":nope\")",
	})
	w, err := openTest(context.Background(), Config{Root: root})
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
	files := map[string]string{RootFile: "", "lib/ok.star": "load(\"//lib:base.star\", \"x\")\ny = x", "lib/base.star": "x = 1"}
	for i := range 40 {
		files[fmt.Sprintf("p%02d/B9BUILD.star", i)] = "load(\"//lib:ok.star\", \"y\")\nfile(name = \"t\", content = str(y))"
		files[fmt.Sprintf("ring/r%02d.star", i)] = fmt.Sprintf("load(\":r%02d.star\", other = \"x\")\nx = 1", (i+1)%40)
		files[fmt.Sprintf("q%02d/B9BUILD.star", i)] = fmt.Sprintf("load(\"//ring:r%02d.star\", \"x\")", i)
	}
	writeWorkspace(t, root, files)
	for range 20 {
		w, err := openTest(context.Background(), Config{Root: root})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Resolve(context.Background(), []string{"//..."})
		var all Errors
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
	writeWorkspace(t, root, map[string]string{RootFile: "", "a/B9BUILD.star/x": ""})
	if err := os.Symlink("/dev/zero", filepath.Join(root, BuildFile)); err != nil {
		t.Fatal(err)
	}
	w, err := openTest(context.Background(), Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Resolve(context.Background(), []string{"//:x", "//a"})
	want := "B9BUILD.star:1:1: cannot be read: it is not a regular file\na/B9BUILD.star:1:1: cannot be read: it is not a regular file"
	if err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
