package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// longTests is set by `make test`: examples that install a Debian take
// minutes, and the everyday `go test ./...` leaves them out.
const longTests = "B9_LONG_TESTS"

// slow are the examples that install a Debian.
func slow() []string { return []string{"debian.star", "hello32.star", "machine.star"} }

// checkout copies the examples into a workspace of its own.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b9.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// b9 runs the program in process and returns what it reports as JSON.
func b9(t *testing.T, args ...string) output.Build {
	t.Helper()
	return b9With(t, 0, args...)
}

// b9With is b9 with Program.ForkAbove.
func b9With(t *testing.T, above int64, args ...string) output.Build {
	t.Helper()
	var stdout, stderr bytes.Buffer
	build := func() int {
		stdout.Reset()
		stderr.Reset()
		p := session.New(strings.NewReader(""), &stdout, &stderr)
		p.ForkAbove = above
		return runProgram(context.Background(), p, append([]string{"--json"}, args...))
	}
	code := build()
	// A mirror in the middle of an update: only waiting helps.
	for wait := 15 * time.Second; code != 0 && strings.Contains(stderr.String(), "the archive is out of step with itself") && wait <= 4*time.Minute; wait *= 2 {
		t.Logf("again in %v: %s", wait, &stderr)
		time.Sleep(wait)
		code = build()
	}
	if code != 0 {
		t.Fatalf("b9 %s: exit status %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	var r output.Build
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	return r
}

// A base image that is published again changes what is built on it when the
// lock file is moved, and not before.
func TestExampleIsPinned(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, store := checkout(t), t.TempDir()
	build := func(args ...string) output.Build {
		return b9(t, append([]string{"-C", dir, "--store", store, "build"}, args...)...)
	}
	build("examples/appliance_base.star")
	first := build("examples/appliance.star")
	build("examples/appliance_base.star", "-D", "release=2")
	if pinned := build("examples/appliance.star", "--locked"); pinned.Executed != 0 || !slices.Equal(pinned.Results, first.Results) {
		t.Errorf("%d steps ran for a version that is not in the lock file", pinned.Executed)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-C", dir, "--store", store, "update", "appliance_base"}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("update: exit status %d\n%s", code, out.String())
	}
	if moved := build("examples/appliance.star", "--locked"); moved.Executed != 3 || slices.Equal(moved.Results, first.Results) {
		t.Errorf("after update %d steps ran, want 3", moved.Executed)
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "*.star"))
	if err != nil || len(files) < 5 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("needs root")
			}
			if slices.Contains(slow(), name) && os.Getenv(longTests) == "" {
				t.Skipf("installs a Debian: set %s=1, as `make test` does", longTests)
			}
			dir, store := checkout(t), t.TempDir()
			if name == "appliance.star" { // uses what the other one publishes
				b9(t, "-C", dir, "--store", store, "build", "examples/appliance_base.star")
			}
			first := b9(t, "-C", dir, "--store", store, "build", "examples/"+name)
			if first.Executed == 0 || len(first.Results) == 0 {
				t.Errorf("executed %d steps with %d results", first.Executed, len(first.Results))
			}
			for _, p := range first.Results {
				if _, err := os.Stat(filepath.Join(dir, p.Path)); err != nil {
					t.Error(err)
				}
			}
			if !slices.Contains(changing(), name) {
				t.Run("digests", func(t *testing.T) { checkDigests(t, name, first.Results) })
			}
			again := b9(t, "-C", dir, "--store", store, "build", "examples/"+name)
			if again.Executed != 0 || !slices.Equal(first.Results, again.Results) {
				t.Errorf("again: %d executed, results %v, want 0 and %v", again.Executed, again.Results, first.Results)
			}
		})
	}
}
