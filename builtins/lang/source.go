package lang

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/engine"
)

// outputDir is the directory below the workspace root that results are placed in.
const outputDir = "b9-out"

// isResults reports whether a directory below the root is that of the results,
// or is where they are put unless something else is said.
func (w *Workspace) isResults(dir string) bool {
	return dir == outputDir || w.cfg.Out != "" && dir == w.cfg.Out
}

// resultsIn is the pattern that excludes the configured directory of the results
// from a directory of the host, if it is in there.
func (w *Workspace) resultsIn(dir string) []string {
	if w.cfg.Out == "" || w.cfg.Out == outputDir {
		return nil
	}
	rel, err := filepath.Rel(dir, filepath.Join(w.root, w.cfg.Out))
	if err != nil || rel == "." || !filepath.IsLocal(rel) {
		return nil
	}
	return []string{"/" + patternCharacter().ReplaceAllString(rel, `\$0`)}
}

// patternCharacter is one that means more than itself to path.Match.
var patternCharacter = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`[][*?\\]`)
})

// sourceFile is a file or directory of the workspace that build files name by
// its path, or of a directory of [sources] that they name by a label.
type sourceFile struct {
	root    string // the name in [sources]; "" is the workspace
	path    string // slash-separated, below the root; "." is the root
	label   string // //pkg:path or @root//path, for messages
	stamp   engine.Stamp
	err     error // why it cannot be used, once identified
	outside error // it is a symbolic link out of the workspace, which only who asks for it may use
}

// source returns the declaration of a file or directory that the module names
// by a path relative to its package. It is identified when the graph is linked.
func (m *module) source(rel string) (*declaration, error) {
	if m.library {
		return nil, fmt.Errorf("a library has no source files: %q", rel)
	}
	clean := strings.TrimPrefix(strings.TrimSuffix(rel, "/"), "./")
	if clean == "" || clean == "." {
		return m.ws.sourceAt(m.base.Pkg, "."), nil
	}
	if path.IsAbs(clean) && strings.Contains(clean, ":") {
		return misplaced(clean, ": it is an absolute path"), nil
	}
	if err := checkSourcePath(clean); err != nil {
		return nil, err
	}
	return m.ws.sourceAt(m.base.Pkg, clean), nil
}

// checkSourcePath refuses paths that could lead out of the package.
func checkSourcePath(p string) error {
	if path.IsAbs(p) {
		return fmt.Errorf("%q is absolute: put the file into the workspace", p)
	}
	for part := range strings.SplitSeq(p, "/") {
		switch part {
		case "..":
			return fmt.Errorf(`%q leaves the package: write "//pkg:path" for a file of another package`, p)
		case "", ".":
			return fmt.Errorf("%q has an empty or \".\" part", p)
		}
	}
	return checkPrintable(p)
}

// sourceAt returns the declaration of a file or directory, the same one for
// every mention of it.
func (w *Workspace) sourceAt(pkg, rel string) *declaration {
	below := path.Join(pkg, rel)
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.sources[below]; d != nil {
		return d
	}
	d := &declaration{op: "source", source: &sourceFile{path: below, label: "//" + pkg + ":" + rel}}
	d.handle.decl = d
	w.sources[below] = d
	return d
}

// sourceIn returns the declaration of a file or directory of a directory of
// [sources].
func (w *Workspace) sourceIn(root, rel string) *declaration {
	label := Label{Root: root, Name: rel}.String()
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.sources[label]; d != nil {
		return d
	}
	d := &declaration{op: "source", source: &sourceFile{root: root, path: rel, label: label}}
	d.handle.decl = d
	w.sources[label] = d
	return d
}

// identify finds out, once, whether the source is a file or a directory.
func (w *Workspace) identify(d *declaration) error {
	s := d.source
	if s.err != nil || len(d.step.Outputs) > 0 {
		return s.err
	}
	dir := w.root
	if s.root != "" {
		var ok bool
		if dir, ok = w.cfg.Sources[s.root]; !ok {
			s.err = errors.New(Unknown("[sources] of b9.toml has no", s.root, slices.Sorted(maps.Keys(w.cfg.Sources))))
			return s.err
		}
	}
	full := filepath.Join(dir, filepath.FromSlash(s.path))
	s.stamp = engine.StampOf(full)
	name := s.path
	if s.root != "" {
		name = s.label
	}
	d.step.Action, d.step.Outputs, s.err = w.sourceOf(full, name)
	switch {
	case errors.Is(s.err, fs.ErrNotExist) && s.root == "":
		s.err = w.missingSource(s)
	case s.err == nil:
		s.outside = w.outside(full, name)
	}
	return s.err
}

// sourceOf is the action and the output of a file or directory of the host.
func (w *Workspace) sourceOf(full, name string) (engine.Action, []engine.Output, error) {
	st, err := os.Stat(full)
	switch {
	case err != nil:
		return nil, nil, err
	case st.IsDir():
		tree := &engine.TreeSource{Path: full, Rel: name}
		if full == w.root {
			tree.Exclude = []string{outputDir}
		}
		tree.Exclude = append(tree.Exclude, w.resultsIn(full)...)
		return tree, OneTree(), nil
	case st.Mode().IsRegular():
		return &engine.FileSource{Path: full, Rel: name}, ModedFile(strings.TrimPrefix(path.Ext(full), "."), sourceMode(st.Mode())), nil
	}
	return nil, nil, fmt.Errorf("%s is neither a file nor a directory", name)
}

// outside says that the path, which exists, leads by a symbolic link to what
// lies neither in the workspace nor in a directory of [sources]. A checkout
// could bring any file of the machine into a result otherwise.
func (w *Workspace) outside(full, name string) error {
	real, err := w.realPath(full)
	if err != nil {
		return err
	}
	for _, root := range append(slices.Collect(maps.Values(w.cfg.Sources)), w.root) {
		dir, err := w.realDir(root)
		if err != nil {
			continue // what is not there has nothing in it
		}
		if rel, err := filepath.Rel(dir, real); err == nil && filepath.IsLocal(rel) {
			return nil
		}
	}
	return fmt.Errorf("%s leads by a symbolic link to %s, outside of the workspace: name the directory in b9.toml, such as `[sources] host = %q`, and write %q, or copy the file",
		name, real, filepath.Dir(real), Label{Root: "host", Name: filepath.Base(real)}.String())
}

// realPath is the path without symbolic links.
func (w *Workspace) realPath(full string) (string, error) {
	st, err := os.Lstat(full)
	if err != nil {
		return "", err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		return filepath.EvalSymlinks(full)
	}
	if st.IsDir() {
		return w.realDir(full)
	}
	dir, err := w.realDir(filepath.Dir(full))
	return filepath.Join(dir, filepath.Base(full)), err
}

// realDir is the directory without symbolic links. It is found out once.
func (w *Workspace) realDir(dir string) (string, error) {
	if real, ok := w.real[dir]; ok {
		return real, nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err == nil {
		w.real[dir] = real
	}
	return real, err
}

// sourceMode is what counts of a source file's permissions: whether its owner
// may run it. The rest is the umask of whoever checked it out.
func sourceMode(mode fs.FileMode) uint32 {
	if mode&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

// absentSource is a source that is not there.
type absentSource struct {
	path    string   // below the root
	written string   // as its build file has it, or nearly so
	beside  []string // the paths of what is in its directory
	more    string   // the end of the sentence
}

// Error implements error.
func (a *absentSource) Error() string { return "there is no file " + a.path + a.more }

// missingSource is the error about an absent source.
func (w *Workspace) missingSource(s *sourceFile) error {
	if prefix, rest, ok := w.prefixed(path.Base(s.path)); ok {
		op := strings.TrimSuffix(prefix, ":")
		return fmt.Errorf("there is no file %s: in a build file that %s image is %s(%q)", s.path, op, op, rest)
	}
	a := &absentSource{path: s.path, written: s.label[strings.IndexByte(s.label, ':')+1:]}
	entries, _ := os.ReadDir(filepath.Join(w.root, filepath.FromSlash(path.Dir(s.path))))
	for _, e := range entries {
		a.beside = append(a.beside, path.Join(path.Dir(s.path), e.Name()))
	}
	return a
}

// misplaced is the declaration of a source file that a build file names by what can't be
// the path of one. It is an error once it is linked, when what was meant can be told.
func misplaced(written, why string) *declaration {
	d := &declaration{op: "source", source: &sourceFile{path: written, label: written}}
	d.source.err = &absentSource{path: fmt.Sprintf("%q", written), written: written, more: why}
	d.handle.decl = d
	return d
}

// Source makes a source of what the symbolic link at a path of the host leads
// to, a file or a directory, wherever that lies.
func (l *Linked) Source(link string) (engine.Ref, error) {
	w := l.decl.m.ws
	l.decl.m.readsAt(link)
	real, err := filepath.EvalSymlinks(link)
	if err != nil {
		return engine.Ref{}, err
	}
	action, outputs, err := w.sourceOf(real, real)
	if err != nil {
		return engine.Ref{}, err
	}
	n, err := engine.NewNode(action, engine.NodeOptions{Label: real, Builtin: "source", Outputs: outputs})
	if err != nil {
		return engine.Ref{}, err
	}
	return n.Ref(""), nil
}

// SourcePath is the host path of an input that is a source file or directory
// of the workspace; ok is false for anything a step makes.
func (l *Linked) SourcePath(role string) (name string, ok bool) {
	ref, ok := l.Ref(role)
	if !ok {
		return "", false
	}
	located, ok := ref.Node.Action().(engine.Located)
	if !ok {
		return "", false
	}
	name, _ = located.Locate()
	return name, true
}

// SourceName is how messages name the input of that role: the path below the
// root of a source, the label of anything a step makes.
func (l *Linked) SourceName(role string) string {
	ref, _ := l.Ref(role)
	if ref.Node == nil {
		return ""
	}
	switch a := ref.Node.Action().(type) {
	case *engine.FileSource:
		return a.Rel
	case *engine.TreeSource:
		return a.Rel
	}
	return ref.String()
}

// SourceText reads the input of that role, a source file, as text; known is false
// for anything a step makes. One of more than MaxText bytes is an error.
func (l *Linked) SourceText(role string) (text string, known bool, err error) {
	name, ok := l.SourcePath(role)
	if !ok {
		return "", false, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", true, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxText+1))
	if err == nil && len(data) > MaxText {
		err = fmt.Errorf("%s is larger than %d bytes", name, MaxText)
	}
	return string(data), true, err
}
