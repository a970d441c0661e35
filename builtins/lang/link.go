package lang

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine"
	"b9.build/b9/engine/near"
)

// linkState is what linking knows of a declaration.
type linkState struct {
	linked  bool  // its inputs have been looked up
	failed  bool  // it cannot have a node, for a reason that has been reported
	visit   visit // of the walk that makes nodes
	node    *engine.Node
	target  Target         // what a graph shows of it: the title once visited, the outputs at the end
	counter map[string]int // of unnamed steps titled after this one, by operation
}

// linker finds the declaration behind every label that the wanted targets
// need, loading the files it comes across.
type linker struct {
	w       *Workspace
	ctx     context.Context
	errs    []*Error // in what was asked for
	stack   []*declaration
	pending map[string]Label // files to load, by path
	waiting []reference      // inputs whose file is to be loaded
	asked   []targetPattern  // what was asked for
	files   []Label          // the build files that this needs at once
}

// reference is one input of a declaration.
type reference struct {
	from *declaration
	in   *Input
}

// closure links the declarations and everything they need.
func (l *linker) closure(roots []*declaration) error {
	l.stack = append(l.stack, roots...)
	for {
		for len(l.stack) > 0 {
			d := l.stack[len(l.stack)-1]
			l.stack = l.stack[:len(l.stack)-1]
			l.link(d)
		}
		if len(l.pending) == 0 {
			return l.ctx.Err()
		}
		if err := l.loadPending(); err != nil {
			return err
		}
	}
}

func (l *linker) loadPending() error {
	files, waiting := slices.Collect(maps.Values(l.pending)), l.waiting
	clear(l.pending)
	l.waiting = nil
	if err := l.w.loadAll(l.ctx, files); err != nil {
		return err
	}
	for _, r := range waiting {
		l.resolve(r)
	}
	return nil
}

func (l *linker) link(d *declaration) {
	if d.link.linked || d.poisoned {
		return
	}
	d.link.linked = true
	for in := range d.inputs() {
		l.resolve(reference{d, in})
	}
}

// resolve finds the declaration of one input and puts it on the stack, unless
// the input has to wait for a file.
func (l *linker) resolve(r reference) {
	if r.in.IsZero() {
		return
	}
	if r.in.decl == nil && r.in.label.Root != "" {
		r.in.decl = l.w.sourceIn(r.in.label.Root, r.in.label.Name)
	}
	if r.in.decl == nil {
		label := r.in.label
		m := l.w.loaded(label.file())
		if m == nil {
			l.pending[label.file()] = Label{Pkg: label.Pkg, File: label.File}
			l.waiting = append(l.waiting, r)
			return
		}
		r.from.m.rests(m)
		if err := l.find(m, r); err != nil {
			l.fail(r, err)
			return
		}
	}
	if err := l.check(r.in); err != nil {
		l.fail(r, err)
		return
	}
	if r.in.decl.source != nil {
		r.from.m.restsOn.sources = append(r.from.m.restsOn.sources, r.in.decl.source)
	}
	l.stack = append(l.stack, r.in.decl)
}

// find finds the target of a file that the label of an input names.
func (l *linker) find(m *module, r reference) error {
	label, from := *r.in.label, r.from.m.base.Pkg
	d, err := l.w.target(m, label)
	if err != nil {
		return err
	}
	if !d.visibleFrom(from) {
		return fmt.Errorf("%s is not visible from here: %s", label, d.hidden(from))
	}
	r.in.decl, r.in.output = d, label.Output
	return nil
}

// hidden says why the target is not visible from a package, and what makes it so.
func (d *declaration) hidden(from string) string {
	if strings.HasPrefix(d.name, "_") && len(d.said().visibility) == 1 && d.said().visibility[0] == (visibilityRule{pkg: d.m.base.Pkg}) {
		return fmt.Sprintf("a name with %q before it is for its package alone: give %s another name, or visibility = [%q]", "_", d.pos(), "//"+from)
	}
	return fmt.Sprintf("it was declared at %s without visibility for //%s", d.pos(), from)
}

// check finds out what the source of an input is, and whether it is what is wanted.
func (l *linker) check(in *Input) error {
	if in.decl.source != nil {
		err := l.w.identify(in.decl)
		in.decl.link.failed = err != nil
		if err == nil && !in.follow {
			err = in.decl.source.outside
		}
		if err != nil {
			return err
		}
	}
	return in.check()
}

// fail reports an input that cannot be used, at the call that gave it.
func (l *linker) fail(r reference, err error) {
	r.from.link.failed = true
	if errors.Is(err, errDependency) {
		return
	}
	if absent := new(absentSource); errors.As(err, &absent) {
		err = l.meant(absent, r)
	}
	l.w.linkErrs = append(l.w.linkErrs, r.from.errorf("%s: %w", r.in.param, err))
}

// meant says of a source that is not there what the string most likely stands for: a
// target, else a file beside it or a target of the file with a like name, else what the
// parameter takes in another form.
func (l *linker) meant(absent *absentSource, r reference) error {
	m := r.from.m
	if label := l.w.labelMeant(absent.written, m.base); label != "" {
		return fmt.Errorf("%w: did you mean %q?", absent, label)
	}
	names := absent.beside
	for _, name := range m.targetNames() {
		names = append(names, ":"+name)
	}
	hint := near.Hint(absent.path, names)
	if hint == "" {
		hint = near.Hint(":"+absent.written, names)
	}
	if hint == "" {
		hint = l.w.otherwise(r, absent.written)
	}
	return fmt.Errorf("%w%s", absent, hint)
}

// otherwise is what the parameter of an input takes in another form than as a file, "" if
// the string is likely to be a path.
func (w *Workspace) otherwise(r reference, written string) string {
	if strings.ContainsAny(written, "/.:") && !strings.Contains(written, " ") {
		return ""
	}
	name, _, _ := strings.Cut(r.in.param, "[")
	for i := range w.cfg.Operations {
		if op := &w.cfg.Operations[i]; op.Name == r.from.op {
			for _, p := range op.Params {
				if p.Name == name && p.Otherwise != "" {
					return ": " + fmt.Sprintf(p.Otherwise, written)
				}
			}
		}
	}
	return ""
}

// errorf is a mistake at the place of the declaration.
func (d *declaration) errorf(format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	e := &Error{Pos: d.pos(), Msg: d.op + "(): " + err.Error(), cause: err}
	for _, pos := range d.stack {
		e.Stack = append(e.Stack, Frame{Pos: pos})
	}
	return e
}

// loaded is the module of that path if its evaluation has ended.
func (w *Workspace) loaded(id string) *module {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.modules[id]; m != nil && m.ended() {
		return m
	}
	return nil
}

// target finds what a label names in its evaluated file: a target, else a
// source file. The error is errDependency where the file's own mistakes,
// which are reported already, may be the reason.
func (w *Workspace) target(m *module, l Label) (*declaration, error) {
	if d := m.targets[l.Name]; d != nil {
		return d, nil
	}
	if l.Name != "" && l.File == "" && w.isSource(l) {
		return w.sourceAt(l.Pkg, l.Name), nil
	}
	switch {
	case m.missing:
		return nil, errors.New(w.missingFile(m))
	case m.failed:
		return nil, errDependency
	case l.Name == "":
		return m.defaultTarget()
	}
	return nil, errors.New(Unknown(m.id+" has no target", l.Name, m.targetNames()))
}

// isSource reports whether the label names a source. What is one is noted when it is
// identified; where there is none the label is a mistake.
func (w *Workspace) isSource(l Label) bool {
	st, err := os.Stat(filepath.Join(w.root, filepath.FromSlash(path.Join(l.Pkg, l.Name))))
	return err == nil && (st.Mode().IsRegular() || st.IsDir())
}

// packages lists the build files of the packages below a directory, at most
// limit of them if that is not 0.
func (w *Workspace) packages(ctx context.Context, under string, limit int) ([]Label, error) {
	var found []Label
	err := w.walk(ctx, under, func(dir string, entries []fs.DirEntry) (more bool) {
		if hasEntry(entries, BuildFile) {
			found = append(found, Label{Pkg: dir})
		}
		return limit == 0 || len(found) < limit
	})
	return found, err
}

// walk visits a directory below the root and those in it, until there is to be no more. It
// does not enter hidden directories, results, symbolic links and other workspaces.
func (w *Workspace) walk(ctx context.Context, under string, visit func(dir string, entries []fs.DirEntry) (more bool)) error {
	more := true
	var walk func(dir string) error
	walk = func(dir string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := os.ReadDir(w.lists(dir))
		if err != nil {
			return fmt.Errorf("packages below //%s: %w", dir, err)
		}
		if dir != "" && hasEntry(entries, RootFile) {
			return nil
		}
		more = visit(dir, entries)
		for _, e := range entries {
			if !e.IsDir() || e.Name()[0] == '.' || w.isResults(path.Join(dir, e.Name())) || !more {
				continue
			}
			if err := walk(path.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		return nil
	}
	err := walk(under)
	if under != "" && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func hasEntry(entries []fs.DirEntry, name string) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name })
}

// leftOut lists what was asked for and can't be used because of mistakes elsewhere, and the
// files that can't because of one that they load. What is wrong itself is in the mistakes.
// The caller holds w.resolving.
func (w *Workspace) leftOut(roots []*declaration) []LeftOut {
	var list []LeftOut
	for _, d := range roots {
		if !d.link.failed || d.m != nil && d.m.failed {
			continue
		}
		if because := d.mistaken(); because != d.describe() {
			list = append(list, LeftOut{Name: d.describe(), Because: because})
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.modules {
		if !m.ended() || !m.failed || m.missing || len(m.errs) > 0 {
			continue
		}
		if because := m.mistaken(); because != nil && because != m {
			list = append(list, LeftOut{Name: m.id, Because: because.id})
		}
	}
	slices.SortStableFunc(list, func(a, b LeftOut) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// mistaken is the target that is wrong itself of those that d needs, or d, or the file
// that is wrong.
func (d *declaration) mistaken() string {
	for seen := map[*declaration]bool{}; !seen[d]; {
		seen[d] = true
		if d.m != nil && d.m.failed {
			return d.m.id
		}
		for in := range d.inputs() {
			if in.decl == nil && in.label != nil {
				if m := d.m.ws.loaded(in.label.file()); m != nil && m.failed && !m.missing {
					return m.id
				}
			} else if in.decl != nil && in.decl.link.failed && !seen[in.decl] {
				d = in.decl
				break
			}
		}
	}
	return d.describe()
}

// mistaken is the file that has the mistakes of those that m loads, or m; nil for none.
// The caller holds Workspace.mu.
func (m *module) mistaken() *module {
	for seen := map[*module]bool{}; m != nil && !seen[m]; {
		seen[m] = true
		if len(m.errs) > 0 {
			return m
		}
		var next *module
		for on := range m.restsOn.modules {
			if on.ended() && on.failed && !on.missing && (next == nil || on.id < next.id) {
				next = on
			}
		}
		m = next
	}
	return nil
}
