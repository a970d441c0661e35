package session

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckedOut asks git itself what is checked out.
func TestCheckedOut(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git: install the Debian package git")
	}
	top := t.TempDir()
	git := func(dir string, args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@example"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	check := func(dir, source string) {
		t.Helper()
		gotSource, commit := checkedOut(dir)
		if want := git(dir, "rev-parse", "HEAD"); commit != want || gotSource != source {
			t.Errorf("%q at %q, want %q at %q", gotSource, commit, source, want)
		}
	}
	main := filepath.Join(top, "main")
	if err := os.MkdirAll(filepath.Join(main, "deep", "er"), 0o755); err != nil {
		t.Fatal(err)
	}
	git(main, "init", "-q")
	if source, commit := checkedOut(main); source != "" || commit != "" {
		t.Errorf("before the first commit: %q, %q", source, commit)
	}
	git(main, "commit", "-q", "--allow-empty", "-m", "one")
	check(filepath.Join(main, "deep", "er"), "")
	git(main, "remote", "add", "origin", "https://someone:secret@git.example/images.git?token=x")
	git(main, "pack-refs", "--all")
	check(main, "https://git.example/images.git")
	git(main, "checkout", "-q", "--detach")
	git(main, "remote", "set-url", "origin", "git@git.example:images.git")
	check(main, "git.example:images.git")
	git(main, "worktree", "add", "-q", "-b", "other", filepath.Join(top, "other"))
	git(filepath.Join(top, "other"), "commit", "-q", "--allow-empty", "-m", "two")
	check(filepath.Join(top, "other"), "git.example:images.git")
	if source, commit := checkedOut(t.TempDir()); source != "" || commit != "" {
		t.Errorf("outside of git: %q, %q", source, commit)
	}
}

// TestCheckedOutOfPipes: files of git that are none say nothing, at once.
func TestCheckedOutOfPipes(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"HEAD", "config", "commondir", "packed-refs"} {
		if err := syscall.Mkfifo(filepath.Join(dir, ".git", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if source, commit := checkedOut(dir); source != "" || commit != "" {
		t.Errorf("%q at %q", source, commit)
	}
}
