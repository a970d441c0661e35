package lang

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"b9.build/b9/engine"
)

// OutputDir is the directory below the workspace root that results are placed in.
const OutputDir = "b9-out"

// sourceFile is a file or directory of the workspace that build files name by
// its path.
type sourceFile struct {
	path  string // slash-separated, below the root; "." is the root
	label string // //pkg:path, for messages
	err   error  // why it cannot be used, once identified
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

// identify finds out, once, whether the source is a file or a directory.
func (w *Workspace) identify(d *declaration) error {
	s := d.source
	if s.err != nil || len(d.step.Outputs) > 0 {
		return s.err
	}
	full := w.reads(s.path)
	st, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.err = errors.New(w.missingSource(s.path))
	case err != nil:
		s.err = err
	case st.IsDir():
		tree := &engine.TreeSource{Path: full, Rel: s.path}
		if s.path == "." {
			tree.Exclude = []string{OutputDir}
		}
		d.step.Action = tree
		d.step.Outputs = OneTree()
	case st.Mode().IsRegular():
		d.step.Action = &engine.FileSource{Path: full, Rel: s.path}
		d.step.Outputs = ModedFile(strings.TrimPrefix(path.Ext(s.path), "."), sourceMode(st.Mode()))
	default:
		s.err = fmt.Errorf("%s is neither a file nor a directory", s.path)
	}
	return s.err
}

// sourceMode is what counts of a source file's permissions: whether its owner
// may run it. The rest is the umask of whoever checked it out.
func sourceMode(mode fs.FileMode) uint32 {
	if mode&0o100 != 0 {
		return 0o755
	}
	return 0o644
}

// missingSource says that a source is absent, and which file of its directory
// may have been meant.
func (w *Workspace) missingSource(p string) string {
	if prefix, rest, ok := w.prefixed(path.Base(p)); ok {
		op := strings.TrimSuffix(prefix, ":")
		return fmt.Sprintf("there is no file %s: in a build file that %s image is %s(%q)", p, op, op, rest)
	}
	entries, _ := os.ReadDir(filepath.Join(w.root, filepath.FromSlash(path.Dir(p))))
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = path.Join(path.Dir(p), e.Name())
	}
	return Suggest(fmt.Sprintf("there is no file %s", p), p, names)
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
