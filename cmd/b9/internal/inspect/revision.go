package inspect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/exit"
)

// Revisions
//
// What a workspace was at a revision is the workspace as it is, with what git calls
// changed taken back. So what git does not know stays the same in both, such as files that it
// ignores, and submodules that did not move; attributes for export do not count, as they
// would for an archive; and of files that Git LFS keeps elsewhere those that did not change
// are there. Nothing of the working tree is written to, not even a link count, which would
// make git and b9 read the file again.

// revision is a repository's working tree now, and a copy of it as it was.
type revision struct {
	top     string          // of the working tree, without symbolic links
	old     string          // of the copy
	changed map[string]bool // paths below both, slash-separated
	skip    []string        // directories that are no part of the workspace, absolute
}

// gitCommand runs git in a directory. Its error has what git said.
func gitCommand(ctx context.Context, dir string, env []string, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.bareRepository=explicit", "-c", "core.fsmonitor=false", "-C", dir}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.Env = append(elsewhere(os.Environ()), append([]string{"LC_ALL=C", "GIT_LFS_SKIP_SMUDGE=1", "GIT_OPTIONAL_LOCKS=0"}, env...)...)
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("there is no git on this machine, which tells what has changed: install it")
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimPrefix(strings.TrimSpace(cmpOr(errs.String(), err.Error())), "fatal: "))
	}
	return out.String(), nil
}

func cmpOr(text, other string) string {
	if strings.TrimSpace(text) == "" {
		return other
	}
	return text
}

// elsewhere is an environment without what ties git to the repository of who calls b9, as a
// hook's does (`git rev-parse --local-env-vars`, but for settings).
func elsewhere(environ []string) []string {
	tied := []string{
		"GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE",
		"GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS",
	}
	return slices.DeleteFunc(slices.Clone(environ), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(tied, name)
	})
}

// names splits what git lists with -z.
func names(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\x00"), func(s string) bool { return s == "" })
}

// checkOut copies the working tree around a directory as it was at a revision into the
// directory to, which is empty. What is skipped is in no copy.
func checkOut(ctx context.Context, dir, rev, to string, skip []string) (*revision, error) {
	top, err := gitCommand(ctx, dir, nil, "", "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("affected: the workspace has to be in a working tree of git: %w", err)
	}
	commit, err := gitCommand(ctx, dir, nil, "", "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
	if err != nil {
		return nil, exit.Usagef("--since %s: git knows no such revision here (a shallow clone has only the newest: `git fetch --unshallow`)", rev)
	}
	r := &revision{top: strings.TrimSuffix(top, "\n"), old: filepath.Join(to, "tree"), changed: map[string]bool{}, skip: skip}
	if err := os.Mkdir(r.old, 0o755); err != nil {
		return nil, err
	}
	if err := r.back(ctx, "", strings.TrimSpace(commit), to); err != nil {
		return nil, err
	}
	return r, r.copyRest(ctx, "")
}

// back notes what has changed since a commit below a directory of the working tree, which
// is the top or a submodule, and makes it anew in the copy.
func (r *revision) back(ctx context.Context, below, commit, scratch string) error {
	dir := filepath.Join(r.top, below)
	differ, err := gitCommand(ctx, dir, nil, "", "diff", "--name-only", "-z", "--no-renames", "--no-relative", "--no-ext-diff", "--ignore-submodules=none", commit, "--")
	if err != nil {
		return err
	}
	untracked, err := gitCommand(ctx, dir, nil, "", "ls-files", "-z", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	tracked, err := gitCommand(ctx, dir, nil, "", "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return err
	}
	modules := map[string]string{} // submodules of the commit: path and commit
	files := map[string]bool{}
	for _, line := range names(tracked) {
		head, name, _ := strings.Cut(line, "\t")
		if mode, id, _ := strings.Cut(head, " commit "); mode == "160000" {
			modules[name] = id
		} else {
			files[name] = true
		}
	}
	var again []string
	for _, name := range append(names(differ), names(untracked)...) {
		name = strings.TrimSuffix(name, "/")
		if id, ok := modules[name]; ok {
			if err := r.submodule(ctx, filepath.Join(below, name), id, scratch); err != nil {
				return err
			}
			continue
		}
		if r.changed[filepath.Join(below, name)] = true; files[name] {
			again = append(again, name)
		}
	}
	return r.checkOut(ctx, below, commit, again, scratch)
}

// submodule takes a submodule back to a commit.
func (r *revision) submodule(ctx context.Context, name, commit, scratch string) error {
	if _, err := os.Lstat(filepath.Join(r.top, name, ".git")); err == nil {
		if _, err := gitCommand(ctx, filepath.Join(r.top, name), nil, "", "cat-file", "-e", commit+"^{commit}"); err == nil {
			return r.back(ctx, name, commit, scratch)
		}
	}
	return fmt.Errorf("affected: the submodule %s has not the commit %.12s, which it was at: `git -C %s fetch`, or check it out", name, commit, name)
}

// checkOut writes files as they were at a commit. An index of its own leaves the user's alone.
func (r *revision) checkOut(ctx context.Context, below, commit string, names []string, scratch string) error {
	if len(names) == 0 {
		return nil
	}
	dir, index := filepath.Join(r.top, below), []string{"GIT_INDEX_FILE=" + filepath.Join(scratch, "index")}
	if _, err := gitCommand(ctx, dir, index, "", "read-tree", commit); err != nil {
		return err
	}
	_, err := gitCommand(ctx, dir, index, strings.Join(names, "\x00")+"\x00", "checkout-index", "-f", "-q", "-z", "--stdin", "--prefix="+filepath.Join(r.old, below)+"/")
	return err
}

// copyRest copies what has not changed below a directory.
func (r *revision) copyRest(ctx context.Context, below string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(r.top, below))
	if err != nil {
		return err
	}
	if len(entries) == 0 && below != "" {
		return os.MkdirAll(filepath.Join(r.old, below), 0o755)
	}
	for _, e := range entries {
		name := filepath.Join(below, e.Name())
		switch {
		case r.changed[name] || e.Name() == ".git" || slices.Contains(r.skip, filepath.Join(r.top, name)):
			continue
		case e.IsDir():
			err = r.copyRest(ctx, name)
		case e.Type() == fs.ModeSymlink:
			err = r.copyLink(name)
		case e.Type().IsRegular():
			err = r.copyFile(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copyLink copies a symbolic link; one into the working tree leads into the copy.
func (r *revision) copyLink(name string) error {
	to, err := os.Readlink(filepath.Join(r.top, name))
	if err != nil {
		return err
	}
	if rest, ok := strings.CutPrefix(to, r.top+"/"); ok {
		to = filepath.Join(r.old, rest)
	}
	dst := filepath.Join(r.old, name)
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	return os.Symlink(to, dst)
}

// copyFile copies a file. Of one that is too long for evaluation to read the length is
// all that counts.
func (r *revision) copyFile(name string) (err error) {
	src, err := os.Open(filepath.Join(r.top, name))
	if errors.Is(err, fs.ErrPermission) {
		return nil // whoever evaluates can't read it either
	}
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	path := filepath.Join(r.old, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	dst, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if info.Size() > lang.MaxText {
		return dst.Truncate(info.Size())
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) == nil {
		return nil
	}
	_, err = io.Copy(dst, src)
	return err
}

// source says what a source file or directory of the tree at root stands for: its path,
// and of what has changed the content. What a directory excludes does not count.
func (r *revision) source(root, path string, excluded func(rel string) bool) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	at, err := filepath.Rel(root, real)
	if err != nil || !filepath.IsLocal(at) {
		return real, nil // of no tree
	}
	info, err := os.Stat(real)
	if err == nil && !info.IsDir() && r.isChanged(at) {
		content, _, err := fileState(real) // a program or not, the step that reads it says
		return content, err
	}
	text := at + "\n"
	for _, name := range slices.Sorted(maps.Keys(r.changed)) {
		rel, ok := strings.CutPrefix(name, at+"/")
		if at == "." {
			rel, ok = name, true
		}
		if !ok || excluded(rel) {
			continue
		}
		content, program, err := fileState(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("%q %s %t\n", rel, content, program)
	}
	return text, err
}

// isChanged reports whether a path, or a directory that it lies in, has changed.
func (r *revision) isChanged(at string) bool {
	for ; at != "." && at != "/"; at = filepath.Dir(at) {
		if r.changed[at] {
			return true
		}
	}
	return false
}

// fileState tells the content of a file, and whether it is a program.
func fileState(path string) (content string, program bool, err error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return "absent", false, nil
	case err != nil:
		return "", false, err
	case info.Mode().Type() == fs.ModeSymlink:
		to, err := os.Readlink(path)
		return "link " + to, false, err
	case !info.Mode().IsRegular():
		return info.Mode().Type().String(), false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return fmt.Sprintf("%x", sum.Sum(nil)), info.Mode()&0o100 != 0, err
}
