// Package fsystest holds what tests of several formats share: programs that a
// test needs or asks for a second opinion, and what it expects of errors and
// files. Tests of the formats against the kernel and against other readers lie
// in package fsys, with what only they need.
package fsystest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/tool"
)

// Need skips a test when a program of the host is missing.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	for _, name := range tools {
		if _, err := tool.Find(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
}

// NeedRoot skips a test that only root can run.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// Run executes an oracle and fails the test when it is unhappy.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	if p, err := tool.Find(name); err == nil {
		name = p
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Write makes a file and the directories above it.
func Write(t testing.TB, path string, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// WantError fails the test when err is nil or lacks one of the parts.
func WantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("error %q does not say %q", err, p)
		}
	}
}

// Gone fails the test when there is something at path.
func Gone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("%s was left behind", path)
	}
}

// SparseFile makes a file of size bytes, a hole but for the first.
func SparseFile(t testing.TB, size int64) string {
	p := t.TempDir() + "/sparse"
	Write(t, p, "x")
	if err := os.Truncate(p, size); err != nil {
		t.Fatal(err)
	}
	return p
}
