package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/cmd/b9/internal/exit"
)

// TestProfiles records a build: each of the hidden flags leaves a file in the form
// of its kind, and no help shows it.
func TestProfiles(t *testing.T) {
	s := newSite(t, map[string]string{"b9.toml": "", "B9BUILD.star": `file(name = "a", content = "x")`})
	dir := t.TempDir()
	kinds := map[string][]byte{
		"cpuprofile": {0x1f, 0x8b}, // gzip
		"memprofile": {0x1f, 0x8b},
		"trace":      []byte("go 1."),
	}
	args := []string{"build", "//:a"}
	for flag := range kinds {
		args = append(args, "--"+flag, filepath.Join(dir, flag))
	}
	if status, out, errs := s.b9(args...); status != exit.OK || !strings.Contains(out, "b9-out/a") {
		t.Fatalf("status %d\n%s%s", status, out, errs)
	}
	_, help, _ := s.b9("build", "--help")
	for flag, head := range kinds {
		data, err := os.ReadFile(filepath.Join(dir, flag))
		if err != nil || !bytes.HasPrefix(data, head) {
			t.Errorf("--%s: %v, %d bytes that begin with %q, want %q", flag, err, len(data), data[:min(len(data), 8)], head)
		}
		if strings.Contains(help, flag) {
			t.Errorf("the help shows --%s", flag)
		}
	}
	if status, _, errs := s.b9("version", "--trace", filepath.Join(dir, "no", "where")); status != exit.Failed || !strings.Contains(errs, "no such file or directory") {
		t.Errorf("a file that can't be written: status %d, %s", status, errs)
	}
}
