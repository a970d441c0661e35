package builtins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"
	"golang.org/x/sys/unix"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

func treeOperation() lang.Operation {
	return lang.Operation{
		Name: "tree",
		Doc: `a directory put together from files, directories and links

files says what goes where: a file under the path, a directory with all that is
in it below the path ("." is the root). Permissions come from the sources, or
from file(mode=); owners are root. modes and owners change them for every path
that matches a pattern (* and ? do not match a slash; later ones win). Two
entries for one path are an error. All times are the build's.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "files", Type: lang.DictOf(lang.File | lang.Tree), Doc: "files and directories by their path in the tree"},
			{Name: "srcs", Type: lang.ListOf(lang.File), Doc: "source files, such as glob() lists them, each under prefix and its own path"},
			{Name: "prefix", Type: lang.String, Doc: "directory of the tree that srcs go below"},
			{Name: "strip_prefix", Type: lang.String, Doc: "leading directory that the paths of srcs lose"},
			{Name: "links", Type: lang.DictOf(lang.String), Doc: "symbolic links: their targets by their path in the tree"},
			{Name: "dirs", Type: lang.ListOf(lang.String), Doc: "empty directories"},
			{Name: "modes", Type: lang.DictOf(lang.String), Doc: `permissions by pattern, three or four octal digits, such as {"etc/cron.d/*": "0644"}`},
			{Name: "owners", Type: lang.DictOf(lang.String), Doc: `owners by pattern as "UID:GID", such as {"var/www": "33:33"}`},
		},
		Example: `tree(name = "overlay", files = {"etc/motd": ":motd", "srv/www": "site"}, links = {"etc/localtime": "/usr/share/zoneinfo/UTC"})`,
		Make:    makeTreeStep,
	}
}

func makeTreeStep(c *lang.Call) (lang.Step, error) {
	t := &makeTree{}
	b := treeBuilder{c: c, t: t, seen: map[string]string{}}
	for _, e := range c.Entries("files") {
		from := "files[" + strconv.Quote(e.Key) + "]"
		b.input(e.Key, from, c.Operand(e.Value, lang.File|lang.Tree, from))
	}
	b.sources()
	for _, e := range c.Entries("links") {
		to, _ := e.Value.(starlark.String)
		if to == "" {
			c.Errorf("links: %q has no target", e.Key)
		}
		b.add(treeEntry{Path: e.Key, Link: string(to), From: "links[" + strconv.Quote(e.Key) + "]"})
	}
	for i, dir := range c.Strings("dirs") {
		b.add(treeEntry{Path: dir, Dir: true, From: fmt.Sprintf("dirs[%d]", i)})
	}
	for _, e := range c.Entries("modes") {
		b.mode(e)
	}
	for _, e := range c.Entries("owners") {
		b.owner(e)
	}
	return lang.Step{Action: t, Inputs: b.inputs, Outputs: lang.OneTree(), Finish: t.finish}, nil
}

// treeBuilder collects the entries of one tree() call.
type treeBuilder struct {
	c      *lang.Call
	t      *makeTree
	inputs []lang.StepInput
	seen   map[string]string // what made the entry, by its path
}

// add checks an entry's path and enters it.
func (b *treeBuilder) add(e treeEntry) {
	clean := path.Clean(strings.TrimPrefix(e.Path, "/"))
	switch {
	case e.Path == "" || clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(clean, 0):
		b.c.Errorf("%q is not a path in the tree", e.Path)
		return
	case clean == "." && !e.Input:
		b.c.Errorf(`"." is the root of the tree: only a directory can be put there`)
		return
	case b.seen[clean] != "" && clean != ".":
		b.c.Errorf("two entries for %q: %s and %s", clean, b.seen[clean], e.From)
		return
	}
	b.seen[clean] = e.From
	e.Path = clean
	b.t.Entries = append(b.t.Entries, e)
}

func (b *treeBuilder) input(at, from string, in lang.Input) {
	b.inputs = append(b.inputs, lang.StepInput{Role: entryRole(len(b.t.Entries)), From: in})
	b.add(treeEntry{Path: at, Input: true, From: from})
}

// sources enters srcs below the prefix.
func (b *treeBuilder) sources() {
	inputs := b.c.Inputs("srcs")
	list, _ := b.c.Value("srcs").(starlark.Indexable)
	strip := strings.Trim(b.c.String("strip_prefix"), "/")
	var outside []string
	for i, in := range inputs {
		name, ok := starlark.AsString(list.Index(i))
		if !ok || lang.IsLabel(name) {
			b.c.Errorf("srcs: element %d is no source path, so it has no name in the tree: put it into files", i)
			continue
		}
		rest := name
		if strip != "" {
			if rest, ok = strings.CutPrefix(name, strip+"/"); !ok {
				outside = append(outside, name)
				continue
			}
		}
		b.input(path.Join(b.c.String("prefix"), rest), "srcs["+strconv.Itoa(i)+"]", in)
	}
	switch n := len(outside) - 1; {
	case n == 0:
		b.c.Errorf("srcs: %q does not lie in strip_prefix %q", outside[0], strip)
	case n > 0:
		b.c.Errorf("srcs: %q and %d more do not lie in strip_prefix %q", outside[0], n, strip)
	}
}

func entryRole(i int) string { return fmt.Sprintf("entry %d", i) }

func (b *treeBuilder) mode(e lang.Entry) {
	text, _ := starlark.AsString(e.Value)
	bits, err := parseMode(text)
	if err != nil {
		b.c.Errorf("modes: %w", err)
	}
	b.t.Rules = append(b.t.Rules, treeRule{Pattern: b.pattern("modes", e.Key), SetMode: true, Mode: bits})
}

func (b *treeBuilder) owner(e lang.Entry) {
	text, _ := starlark.AsString(e.Value)
	user, group, ok := strings.Cut(text, ":")
	uid, uerr := strconv.ParseUint(user, 10, 31)
	gid, gerr := strconv.ParseUint(group, 10, 31)
	if !ok || uerr != nil || gerr != nil {
		b.c.Errorf(`owners: %q: write "UID:GID" in numbers, such as "33:33"`, text)
	}
	b.t.Rules = append(b.t.Rules, treeRule{Pattern: b.pattern("owners", e.Key), SetOwner: true, UID: int(uid), GID: int(gid)})
}

func (b *treeBuilder) pattern(param, p string) string {
	p = strings.TrimPrefix(p, "/")
	if _, err := path.Match(p, ""); err != nil {
		b.c.Errorf("%s: %q is no pattern: %w", param, p, err)
	}
	return p
}

// finish notes which inputs are directories, and the modes files ask for.
func (t *makeTree) finish(l *lang.Linked) error {
	done := *t
	done.Entries = slices.Clone(t.Entries)
	for i := range done.Entries {
		e := &done.Entries[i]
		if out, ok := l.Output(entryRole(i)); ok {
			e.Tree, e.Mode = out.Kind == store.Tree, out.Mode
		}
		if e.Path == "." && !e.Tree {
			return fmt.Errorf(`"." is the root of the tree: only a directory can be put there`)
		}
	}
	l.Action = &done
	return done.conflict(l)
}

// makeTree puts files, directories and links together. What comes from
// elsewhere has the role "entry N", with N counting Entries from 0.
type makeTree struct {
	Entries []treeEntry
	Rules   []treeRule // later ones win
}

// treeRule changes what matches its pattern.
type treeRule struct {
	Pattern           string
	SetMode, SetOwner bool
	Mode              uint32
	UID, GID          int
}

// treeEntry is one path of a tree: an empty directory when nothing else is set.
type treeEntry struct {
	Path  string // relative, slash-separated; "." is the root of the tree
	Input bool   // a file or a directory of the role "entry N"
	Tree  bool   // the input is a directory, whose content goes below Path
	Link  string // target of a symbolic link
	Dir   bool
	Mode  uint32 // permission bits of a file; 0 means 0644
	From  string `key:"-"` // the argument it was given by, for messages
}

// Kind implements engine.Action.
func (t *makeTree) Kind() string { return "tree/2" }

// Run implements engine.Action.
func (t *makeTree) Run(ctx context.Context, job *engine.Job) error {
	if err := os.Mkdir(job.Output(""), 0o755); err != nil {
		return err
	}
	if err := os.Chmod(job.Output(""), 0o755); err != nil { // whatever the umask
		return err
	}
	// Every path is opened beneath the root, so that a link that one entry
	// made can't lead another one out of the tree.
	root, err := os.OpenRoot(job.Output(""))
	if err != nil {
		return err
	}
	defer root.Close()
	for i, e := range t.Entries {
		if err := e.make(ctx, job, root, entryRole(i)); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	return t.normalize(ctx, job.Output(""), job.Epoch())
}

func (e *treeEntry) make(ctx context.Context, job *engine.Job, root *os.Root, role string) error {
	if err := makeDirs(root, path.Dir(e.Path)); err != nil {
		return err
	}
	switch {
	case e.Link != "":
		return root.Symlink(e.Link, e.Path)
	case e.Dir:
		return makeDirs(root, e.Path)
	}
	src, err := job.Expose(ctx, role)
	if err != nil {
		return err
	}
	if e.Tree {
		err = e.graft(ctx, src.Path, root)
	} else {
		err = copyInto(root, src.Path, e.Path, permissions(cmp.Or(e.Mode, 0o644)))
	}
	return errors.Join(err, src.Close())
}

// makeDirs makes a directory and those above it that are missing, with mode
// 0755 whatever the umask.
func makeDirs(root *os.Root, p string) error {
	if _, err := root.Lstat(p); err == nil {
		return root.MkdirAll(p, 0o755) // a directory, or an error
	}
	if err := makeDirs(root, path.Dir(p)); err != nil {
		return err
	}
	if err := root.Mkdir(p, 0o755); err != nil {
		return err
	}
	return root.Chmod(p, 0o755)
}

// copyInto copies a host file to a new file beneath root.
func copyInto(root *os.Root, src, dst string, mode fs.FileMode) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := root.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	return errors.Join(err, out.Chmod(mode), out.Close())
}

// graft copies the content of dir below the entry's path, with permissions
// and links.
func (e *treeEntry) graft(ctx context.Context, dir string, root *os.Root) error {
	return walk(ctx, dir, func(file, rel string, d fs.DirEntry) error {
		return graftOne(root, file, path.Join(e.Path, rel), d)
	})
}

// walk visits everything from dir down. rel is the slash-separated path of file
// below dir.
func walk(ctx context.Context, dir string, visit func(file, rel string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		return visit(file, filepath.ToSlash(rel), d)
	})
}

func graftOne(root *os.Root, file, dst string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir() && dst == ".":
		return nil
	case d.IsDir():
		if err := makeDirs(root, dst); err != nil {
			return err
		}
		return root.Chmod(dst, info.Mode())
	case d.Type()&fs.ModeSymlink != 0:
		to, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return root.Symlink(to, dst)
	case d.Type().IsRegular():
		return copyInto(root, file, dst, info.Mode())
	}
	return fmt.Errorf("%s is a %s: a tree holds files, directories and symbolic links", file, d.Type())
}

// normalize applies the rules, and gives everything root as its owner and the
// build's time, so that the same content gives the same tree.
func (t *makeTree) normalize(ctx context.Context, dir string, at time.Time) error {
	stamp := unix.NsecToTimespec(at.UnixNano())
	used := make([]bool, len(t.Rules))
	err := walk(ctx, dir, func(file, rel string, d fs.DirEntry) error {
		if err := t.own(file, rel, d, used); err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, file, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if i := slices.Index(used, false); err == nil && i >= 0 {
		err = fmt.Errorf("modes or owners: nothing in the tree matches %q", t.Rules[i].Pattern)
	}
	return err
}

// own sets owner and mode; the owner first, for chown drops setuid.
// It notes which rules were of use.
func (t *makeTree) own(file, rel string, d fs.DirEntry, used []bool) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	uid, gid, mode := 0, 0, info.Mode()
	for i, r := range t.Rules {
		if ok, _ := path.Match(r.Pattern, rel); !ok {
			continue
		}
		used[i] = true
		if r.SetMode {
			mode = permissions(r.Mode)
		}
		if r.SetOwner {
			uid, gid = r.UID, r.GID
		}
	}
	if err := os.Lchown(file, uid, gid); err != nil || d.Type()&fs.ModeSymlink != 0 {
		return err
	}
	return os.Chmod(file, mode)
}
