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

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

func treeOperation() lang.Operation {
	return lang.Operation{
		Name: "tree",
		Doc: `a directory put together from files, directories and links

files says what goes where: a file under the path, a directory with all that is
in it below the path ("." is the root). A file has mode 0755 if its source can be
run, else 0644, or that of file(mode=), and belongs to root. A directory that a
step made, and one file of it such as step["/out"]["su"], keeps owners,
permissions, extended attributes (with them capabilities and access control lists)
and hard links. modes and owners change them for every path that matches a pattern
(* and ? do not match a slash; later ones win); a file of a step's result that gets
another owner loses set-id bits, unless modes gives them, and capabilities. Two
entries for one path are an error. All times are the build's.

Symbolic links in directories stay what they are, texts, wherever they lead.
follow names those whose target is put there instead, with its content, which
counts as that of every source.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "files", Otherwise: `text is a step of its own: file(content = %[1]q)`, Type: lang.DictOf(lang.File | lang.Tree), Doc: "files and directories by their path in the tree"},
			{Name: "srcs", Type: lang.ListOf(lang.File), Doc: "source files, such as glob() lists them, each under prefix and its own path"},
			{Name: "prefix", Type: lang.String, Doc: "directory of the tree that srcs go below"},
			{Name: "strip_prefix", Type: lang.String, Doc: "leading directory that the paths of srcs lose"},
			{Name: "links", Type: lang.DictOf(lang.String), Doc: "symbolic links: their targets by their path in the tree"},
			{Name: "dirs", Type: lang.ListOf(lang.String), Doc: "empty directories"},
			{Name: "follow", Type: lang.ListOf(lang.String), Doc: "paths in the tree of symbolic links from source directories, or of sources that are links out of the workspace, that are replaced by the files or directories they lead to"},
			{Name: "modes", Type: lang.DictOf(lang.String), Doc: `permissions by pattern, three or four octal digits, such as {"etc/cron.d/*": "0644"}`},
			{Name: "owners", Type: lang.DictOf(lang.String), Doc: `owners by pattern as "UID:GID", such as {"var/www": "33:33"}`},
		},
		Example: `tree(name = "overlay", files = {"etc/motd": ":motd", "srv/www": "site"}, links = {"etc/localtime": "/usr/share/zoneinfo/UTC"})`,
		Make:    makeTreeStep,
	}
}

func makeTreeStep(c *lang.Call) (lang.Step, error) {
	t := &makeTree{}
	for _, p := range c.Strings("follow") {
		t.Follow = append(t.Follow, path.Clean(strings.TrimPrefix(p, "/")))
	}
	b := treeBuilder{c: c, t: t, seen: map[string]string{}}
	for _, e := range c.Entries("files") {
		from := "files[" + strconv.Quote(e.Key) + "]"
		in, kept := c.Kept(e.Value, lang.File|lang.Tree, from)
		b.input(treeEntry{Path: e.Key, From: from, Kept: kept}, in)
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

func (b *treeBuilder) input(e treeEntry, in lang.Input) {
	if b.t.follows(path.Clean(strings.TrimPrefix(e.Path, "/"))) {
		in = in.Followed()
	}
	b.inputs = append(b.inputs, lang.StepInput{Role: entryRole(len(b.t.Entries)), From: in})
	e.Input = true
	b.add(e)
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
		b.input(treeEntry{Path: path.Join(b.c.String("prefix"), rest), From: "srcs[" + strconv.Itoa(i) + "]"}, in)
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
			e.Tree, e.Mode = out.Kind == store.Tree && !e.Kept, out.Mode
		}
		if e.Path == "." && !e.Tree {
			return fmt.Errorf(`"." is the root of the tree: only a directory can be put there`)
		}
	}
	l.Action = &done
	if err := done.conflict(l); err != nil {
		return err
	}
	return done.followLinks(l)
}

// makeTree puts files, directories and links together. What comes from
// elsewhere has the role "entry N", with N counting Entries from 0.
type makeTree struct {
	Entries []treeEntry `param:"[].From"`
	Rules   []treeRule  `param:"."` // later ones win
	Follow  []string    // paths of links in directories that entries of their own replace
}

// treeRule changes what matches its pattern.
type treeRule struct {
	Pattern  string `param:"modes"`
	SetMode  bool   `param:"modes"`
	SetOwner bool   `param:"owners"`
	Mode     uint32 `param:"modes"`
	UID      int    `param:"owners"`
	GID      int    `param:"owners"`
}

// treeEntry is one path of a tree: an empty directory when nothing else is set.
type treeEntry struct {
	Path  string // relative, slash-separated; "." is the root of the tree
	Input bool   // a file or a directory of the role "entry N"
	Tree  bool   // the input is a directory, whose content goes below Path
	Kept  bool   // the input is a directory with one file, which goes to Path as it is
	Link  string // target of a symbolic link
	Dir   bool
	Mode  uint32 // permission bits of a file; 0 means 0644
	From  string `key:"-"` // the argument it was given by, for messages
}

// Kind implements engine.Action.
func (t *makeTree) Kind() string { return "tree/3" }

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
	m := &treeMaker{t: t, job: job, dir: job.Output(""), root: root, kept: map[string]*kept{}}
	for i := range t.Entries {
		e := &t.Entries[i]
		if err := m.make(ctx, e, entryRole(i)); err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
	}
	return m.seal(ctx)
}

func (m *treeMaker) make(ctx context.Context, e *treeEntry, role string) error {
	root := m.root
	if err := makeDirs(root, path.Dir(e.Path)); err != nil {
		return err
	}
	switch {
	case e.Link != "":
		return root.Symlink(e.Link, e.Path)
	case e.Dir:
		return makeDirs(root, e.Path)
	}
	if e.Tree || e.Kept {
		return m.graft(ctx, e, m.job.Input(role))
	}
	src, err := m.job.Expose(ctx, role)
	if err != nil {
		return err
	}
	err = copyInto(root, src.Path, e.Path, permissions(cmp.Or(e.Mode, 0o644)))
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
