package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
	"b9.build/b9/engine/internal/sparse"
)

// richTree makes a directory with every kind of entry.
func richTree(t testing.TB, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("device nodes need root")
	}
	write(t, filepath.Join(dir, "bin/tool"), "#!/bin/sh\n")
	check(t, os.Chmod(filepath.Join(dir, "bin/tool"), 0o755|os.ModeSetuid))
	write(t, filepath.Join(dir, "bin-x/a b\nc\\d"), strings.Repeat("x", 300<<10))
	write(t, filepath.Join(dir, "\x01odd"), "")
	write(t, filepath.Join(dir, "nobody"), "n")
	check(t, os.Chown(filepath.Join(dir, "nobody"), 65534, 65533))
	check(t, os.Link(filepath.Join(dir, "nobody"), filepath.Join(dir, "zlink")))
	check(t, os.Symlink("/etc/pass wd", filepath.Join(dir, "symlink")))
	check(t, os.Lchown(filepath.Join(dir, "symlink"), 3, 4))
	check(t, unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(t, unix.Mknod(filepath.Join(dir, "loop"), unix.S_IFBLK|0o660, int(unix.Mkdev(7, 300))))
	check(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o640))
	check(t, unix.Mknod(filepath.Join(dir, "sock"), unix.S_IFSOCK|0o700, 0))
	check(t, os.MkdirAll(filepath.Join(dir, "tmp"), 0o755))
	check(t, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	check(t, os.MkdirAll(filepath.Join(dir, "closed/in"), 0o755))
	check(t, unix.Setxattr(filepath.Join(dir, "bin/tool"), "user.note", []byte("a\x00b"), 0))
	check(t, unix.Setxattr(filepath.Join(dir, "tmp"), "trusted.empty", nil, 0))
	check(t, os.Chmod(filepath.Join(dir, "closed"), 0o500))
	then := time.Unix(1e9, 123456789)
	check(t, os.Chtimes(filepath.Join(dir, "bin/tool"), then, then))
	check(t, os.Chtimes(filepath.Join(dir, "closed"), then, then))
}

func TestTreeComesBackAsItWas(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("tree"))
	defer c.Close()
	dir := filepath.Join(c.Dir(), "tree")
	richTree(t, dir)
	want := fullManifest(t, dir)
	reference := filepath.Join(t.TempDir(), "reference")
	run(t, "cp", "-a", dir, reference)

	o := must[Object](t)(s.Adopt(t.Context(), dir))
	if _, err := os.Lstat(dir); err == nil {
		t.Error("the tree is still in the scratch directory")
	}
	if o.Kind != Tree || o.Digest != want.Digest() || o.Size != want.Size() || !s.Has(o) {
		t.Errorf("adopted %v, want %v with %d bytes", o, want.Digest(), want.Size())
	}
	dst := filepath.Join(t.TempDir(), "dst")
	check(t, s.Extract(t.Context(), o.Digest, dst))
	if got := fullManifest(t, dst); !bytes.Equal(got.Encode(), want.Encode()) {
		t.Errorf("extracted:\n%s\nwant:\n%s", got.Encode(), want.Encode())
	}
	list := `cd "$0" && find . -print0 | LC_ALL=C sort -z | xargs -0 stat -c '%n %F %a %u %g %Y %t:%T %h' && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum`
	a, b := run(t, "sh", "-c", list, reference), run(t, "sh", "-c", list, dst)
	if a != b {
		t.Errorf("stat sees a difference:\n%s\n%s", a, b)
	}
	sound(t, s)
	check(t, s.Extract(t.Context(), o.Digest, t.TempDir()))
	if err := s.Extract(t.Context(), o.Digest, dst); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("into a full directory: %v", err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
	return string(out)
}

// fullManifest looks at a directory as Adopt does, without moving it.
func fullManifest(t testing.TB, dir string) *manifest {
	t.Helper()
	nodes := must[[]node](t)(walk(t.Context(), dir, nil))
	linkHard(nodes)
	check(t, readXattrs(nodes))
	check(t, fillContents(t.Context(), nodes, 2, func(ctx context.Context, n *node) (Digest, int64, error) { return digest.Path(ctx, n.file, 0) }))
	m := &manifest{Full: true}
	for i := range nodes {
		m.Entries = append(m.Entries, nodes[i].entry)
	}
	return m
}

func TestAdoptManyFilesOnce(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("tree"))
	defer c.Close()
	dir := filepath.Join(c.Dir(), "tree")
	for i := range 3 * manyFiles {
		write(t, filepath.Join(dir, strings.Repeat("d/", i%3), string(rune('a'+i%26))+strings.Repeat("x", i)), strings.Repeat("y", i%50))
	}
	want := fullManifest(t, dir).Digest()
	o := must[Object](t)(s.Adopt(t.Context(), dir))
	if o.Digest != want {
		t.Errorf("digest %v, want %v", o.Digest, want)
	}
	if u := must[Usage](t)(s.Usage(t.Context())); u.Files != 50 || u.Trees != 1 {
		t.Errorf("%d files and %d trees are stored, want 50 and 1", u.Files, u.Trees)
	}
	sound(t, s)
}

func TestLinkFromOutsideTheTreeDoesNotReachTheObject(t *testing.T) {
	s := newStore(t)
	c := must[*Scratch](t)(s.Scratch("tree"))
	defer c.Close()
	in := write(t, filepath.Join(c.Dir(), "tree/f"), "content")
	out := filepath.Join(c.Dir(), "outside")
	check(t, os.Link(in, out))
	must[Object](t)(s.Adopt(t.Context(), filepath.Dir(in)))
	check(t, os.Chmod(out, 0o600))
	write(t, out, "changed")
	sound(t, s)
}

func TestSourceTreeDigestCountsWhatMattersOnly(t *testing.T) {
	s := newStore(t)
	dir := filepath.Join(t.TempDir(), "src")
	a, b := write(t, filepath.Join(dir, "a"), "1"), write(t, filepath.Join(dir, "sub/b"), "2")
	check(t, os.Symlink("a", filepath.Join(dir, "l")))
	digest := func() Digest {
		t.Helper()
		d, m, err := hashTree(t.Context(), dir, nil)
		check(t, err)
		cached, err := s.TreeDigest(t.Context(), dir, nil)
		check(t, err)
		if d != cached || d != m.Digest() {
			t.Fatalf("digests differ: %v %v %v", d, cached, m.Digest())
		}
		return d
	}
	first := digest()
	now := time.Now().Add(time.Hour)
	check(t, os.Chtimes(a, now, now))
	check(t, os.Chtimes(dir, now, now))
	if digest() != first {
		t.Error("a time counts")
	}
	if os.Geteuid() == 0 {
		check(t, os.Chown(a, 1, 1))
		if digest() != first {
			t.Error("an owner counts")
		}
	}
	o := must[Object](t)(s.Import(t.Context(), dir))
	if o.Digest != first || o.Size != 2 {
		t.Errorf("imported %v, want digest %v", o, first)
	}
	dst := filepath.Join(t.TempDir(), "dst")
	check(t, s.Extract(t.Context(), o.Digest, dst))
	if d, _, err := hashTree(t.Context(), dst, nil); err != nil || d != first {
		t.Errorf("extracted %v %v", d, err)
	}
	last := first
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"content", func() error { return os.WriteFile(b, []byte("3"), 0o600) }},
		{"mode", func() error { return os.Chmod(a, 0o755) }},
		{"link", func() error {
			return errors.Join(os.Remove(filepath.Join(dir, "l")), os.Symlink("b", filepath.Join(dir, "l")))
		}},
		{"name", func() error { return os.Rename(a, filepath.Join(dir, "c")) }},
		{"directory", func() error { return os.Mkdir(filepath.Join(dir, "empty"), 0o755) }},
	} {
		check(t, c.change())
		d := digest()
		if d == last {
			t.Errorf("%s does not count", c.name)
		}
		last = d
	}
}

func TestSkip(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "keep/x"), "1")
	want, _, err := hashTree(t.Context(), dir, nil)
	check(t, err)
	write(t, filepath.Join(dir, ".git/config"), "1")
	write(t, filepath.Join(dir, "keep/x.o"), "1")
	var asked []string
	got, _, err := hashTree(t.Context(), dir, func(rel string, isDir bool) bool {
		if isDir {
			rel += "/"
		}
		asked = append(asked, rel)
		return rel == ".git/" || strings.HasSuffix(rel, ".o")
	})
	check(t, err)
	slices.Sort(asked)
	if got != want || strings.Join(asked, " ") != ".git/ keep/ keep/x keep/x.o" {
		t.Errorf("digest %v, want %v; asked about %v", got, want, asked)
	}
}

func TestCopyTreeIsTheSourceTree(t *testing.T) {
	s := newStore(t)
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
	write(t, filepath.Join(src, "a/b"), "1")
	write(t, filepath.Join(src, "a/skipped"), "2")
	write(t, filepath.Join(src, "run"), "3")
	check(t, os.Chmod(filepath.Join(src, "run"), 0o2770|os.ModeSetuid))
	check(t, os.Chmod(filepath.Join(src, "a"), 0o700))
	check(t, os.Link(filepath.Join(src, "a/b"), filepath.Join(src, "a/c")))
	check(t, unix.Setxattr(filepath.Join(src, "a/b"), "user.note", []byte("x"), 0))
	check(t, os.Symlink("/etc", filepath.Join(src, "l")))
	skip := func(rel string, _ bool) bool { return rel == "a/skipped" }
	want, _, err := hashTree(t.Context(), src, skip)
	check(t, err)
	at := time.Unix(1234, 5)
	for name, st := range map[string]*Store{"hashed": newStore(t), "from the cache": s} {
		dst := filepath.Join(t.TempDir(), "dst")
		if st == s {
			must[Digest](t)(s.TreeDigest(t.Context(), src, skip))
		}
		got, err := st.CopyTree(t.Context(), src, dst, at, skip)
		if err != nil || got != want {
			t.Errorf("%s: copied %v %v, want %v", name, got, err, want)
		}
		if got, _, err := hashTree(t.Context(), dst, nil); err != nil || got != want {
			t.Errorf("%s: the copy is %v %v, want %v", name, got, err, want)
		}
	}
	must[Digest](t)(s.CopyTree(t.Context(), src, dst, at, skip))
	for name, mode := range map[string]os.FileMode{".": 0o755, "a": 0o755, "a/b": 0o644, "a/c": 0o644, "run": 0o755, "l": 0o777} {
		n := must[node](t)(statNode(filepath.Join(dst, name), name))
		attrs := must[[]xattr](t)(xattrsOf(filepath.Join(dst, name)))
		if os.FileMode(n.Mode) != mode || n.MTime != at.UnixNano() || n.Type == typeFile && n.stat.Nlink != 1 || len(attrs) > 0 || int(n.UID) != os.Geteuid() {
			t.Errorf("%s: %+v %v", name, n, attrs)
		}
	}
	if _, err := s.CopyTree(t.Context(), src, dst, at, nil); err == nil {
		t.Error("copied into a full directory")
	}
}

// A copy is never taken for what its source was before or became after.
func TestCopyTreeNoticesChanges(t *testing.T) {
	src := t.TempDir()
	file := write(t, filepath.Join(src, "f"), "one")
	for name, change := range map[string]func(){
		"before":                func() { write(t, file, "two") },
		"in the same length":    func() { write(t, file, "eno") },
		"to another file":       func() { check(t, os.Rename(write(t, filepath.Join(t.TempDir(), "g"), "six"), file)) },
		"to nothing":            func() { check(t, os.Remove(file)) },
		"its permissions alone": func() { check(t, os.Chmod(file, 0o755)) },
	} {
		s := newStore(t)
		write(t, file, "one")
		check(t, os.Chmod(file, 0o644))
		nodes, err := walk(t.Context(), src, nil)
		check(t, err)
		change()
		before, _, err := sourceTree(t.Context(), src, nil, 1, func(ctx context.Context, n *node) (Digest, int64, error) { return digest.Path(ctx, n.file, 1) })
		check(t, err)
		d, err := s.copyNodes(t.Context(), nodes, filepath.Join(t.TempDir(), "dst"), time.Unix(0, 0))
		if err == nil && d != before || err != nil && !errors.Is(err, sparse.ErrChanged) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("changed %s: copied %v, %v", name, d, err)
		}
	}
}

// A scratch directory takes nothing from the directory of the store.
func TestScratchInheritsNothing(t *testing.T) {
	s := newStore(t)
	above := filepath.Join(s.Dir(), scratchDir)
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff"
	if err := unix.Setxattr(above, "system.posix_acl_default", []byte(acl), 0); err == unix.EOPNOTSUPP {
		t.Skip("no access control lists here")
	} else {
		check(t, err)
	}
	if os.Geteuid() == 0 {
		check(t, os.Chown(above, 0, 8))
	}
	check(t, os.Chmod(above, 0o700|os.ModeSetgid))
	c := must[*Scratch](t)(s.Scratch("x"))
	defer c.Close()
	file := write(t, filepath.Join(c.Dir(), "sub/f"), "")
	for _, path := range []string{c.Dir(), filepath.Dir(file), file} {
		n, attrs := must[node](t)(statNode(path, ".")), must[[]xattr](t)(xattrsOf(path))
		if len(attrs) > 0 || int(n.GID) != os.Getegid() || n.Mode&0o2000 != 0 {
			t.Errorf("%s: %o %d %v", path, n.Mode, n.GID, attrs)
		}
	}
}

// hashTree is sourceTree without a cache of digests.
func hashTree(ctx context.Context, root string, skip func(rel string, dir bool) bool) (Digest, *manifest, error) {
	return sourceTree(ctx, root, skip, 2, func(ctx context.Context, n *node) (Digest, int64, error) {
		return digest.Path(ctx, n.file, 1)
	})
}
