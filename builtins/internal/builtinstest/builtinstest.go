// Package builtinstest has what the tests of builtins and of the packages below
// it share: workspaces, golden files, and waiting.
package builtinstest

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Eventually waits until what must come has come.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for range 3000 {
		if holds() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("waited for a minute, but not: %s", what)
}

// Golden holds the file at path, which an operation left as docs/store.md
// describes it, to a file in testdata/golden, and replaces it by that, so that
// what is read next is what was written once.
func Golden(t *testing.T, name, path string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join("testdata", "golden", name)
	if *Update {
		if err := os.WriteFile(kept, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(-update accepts it)", kept, got, want)
	}
	if err := os.WriteFile(path, want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// WriterFunc is called for everything that is written.
type WriterFunc func()

func (f WriterFunc) Write(p []byte) (int, error) { f(); return len(p), nil }

var Update = flag.Bool("update", false, "rewrite the want sections of testdata")

// WriteWorkspace writes files below root.
func WriteWorkspace(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		full := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
