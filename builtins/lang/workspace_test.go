package lang

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"b9.build/b9/builtins/internal/builtinstest"
)

func TestOpenSearchesUpwards(t *testing.T) {
	root := t.TempDir()
	builtinstest.WriteWorkspace(t, root, map[string]string{RootFile: "", "a/b/c": ""})
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
