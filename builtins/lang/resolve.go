package lang

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"b9.build/b9/engine"
)

// Graph is what was asked for, resolved to nodes of the engine.
type Graph struct {
	Targets []*Target // what the patterns named, in their order, each once
	Left    []LeftOut // what they named too, and other mistakes than their own keep from being built; see ResolveUsable
}

// LeftOut is a target, or a build file, that can't be used.
type LeftOut struct {
	Name    string // the title of the target, or the path of the file
	Because string // the target or file whose mistakes are the reason
}

// Target is one target, unnamed step or source file of a graph.
type Target struct {
	Label    Label           // zero for unnamed steps and source files
	Title    string          // the label, or a description such as "//pkg:web (resize)" or "//pkg:conf/app.cfg"
	Builtin  string          // the operation, such as "image"; "source" for a source file
	Doc      string          // the doc= of the call
	Refs     []engine.Ref    // its outputs; of a group, the outputs of its members
	Position engine.Position // of the call; zero for a source file
	placed   []Placement
	decl     *declaration
}

// String is the title.
func (t *Target) String() string { return t.Title }

// Resolve loads the build files that the patterns need, and everything these
// refer to by label, and makes the nodes of the targets. The error holds
// every mistake found on the way as Errors, and those of earlier calls on
// the same workspace. After an evaluation that was
// cancelled or ran into a limit the workspace is of no further use.
func (w *Workspace) Resolve(ctx context.Context, patterns []string) (*Graph, error) {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	g, err := w.graphOf(ctx, func(l *linker) ([]*declaration, error) { return l.roots(patterns) })
	if err != nil {
		return nil, err
	}
	return g, nil
}

// ResolveUsable is Resolve, but beside an error that is Errors there is the graph of what
// no mistake keeps from being used: of a file whose evaluation did not come to its end
// nothing, of others what does not need the wrong calls.
func (w *Workspace) ResolveUsable(ctx context.Context, patterns []string) (*Graph, error) {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	return w.graphOf(ctx, func(l *linker) ([]*declaration, error) { return l.roots(patterns) })
}

// graphOf makes the graph of those declarations that wanted finds and that can be used,
// and gathers the mistakes. The caller holds w.resolving.
func (w *Workspace) graphOf(ctx context.Context, wanted func(*linker) ([]*declaration, error)) (*Graph, error) {
	if w.broken != nil {
		return nil, w.broken
	}
	l := &linker{w: w, ctx: ctx, pending: map[string]Label{}}
	roots, err := wanted(l)
	if err == nil {
		err = l.closure(roots)
	}
	if err != nil {
		return nil, w.stopError(err)
	}
	k := &maker{}
	for _, d := range roots {
		k.make(d)
	}
	w.linkErrs = append(w.linkErrs, k.errs...)
	errs := slices.Concat(l.errs, w.linkErrs, w.moduleErrors())
	if len(errs) == 0 {
		if err := sortedErrors(w.unknownOptions()); err != nil {
			return nil, err
		}
		l.warn()
		return &Graph{Targets: targetsOf(roots)}, nil
	}
	usable := slices.DeleteFunc(slices.Clone(roots), func(d *declaration) bool { return d.link.failed })
	return &Graph{Targets: targetsOf(usable), Left: w.leftOut(roots)}, sortedErrors(errs)
}

func targetsOf(list []*declaration) []*Target {
	targets := make([]*Target, len(list))
	for i, d := range list {
		targets[i] = &d.link.target
	}
	return targets
}

// stopError reports where evaluation was when it was stopped.
func (w *Workspace) stopError(err error) error {
	if w.broken != nil {
		return w.broken
	}
	at := slices.DeleteFunc(w.moduleErrors(), func(e *Error) bool { return !errors.Is(e, err) })
	if len(at) > 0 {
		return sortedErrors(at)
	}
	return fmt.Errorf("evaluation stopped: %w", err)
}

// moduleErrors gathers the mistakes of every evaluated file.
func (w *Workspace) moduleErrors() []*Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []*Error
	for _, m := range w.modules {
		if m.ended() {
			errs = append(errs, m.errs...)
		}
	}
	return errs
}

// roots finds the declarations that the patterns name, each once.
func (l *linker) roots(patterns []string) ([]*declaration, error) {
	var parsed []targetPattern
	files := map[string]Label{}
	var images []*declaration
	for _, text := range patterns {
		if prefix, rest, ok := l.w.prefixed(text); ok {
			d, err := l.w.prefixTarget(prefix, rest)
			if err != nil {
				l.errs = append(l.errs, &Error{Label: text, Msg: err.Error(), cause: err})
				continue
			}
			images = append(images, d)
			continue
		}
		named, without := strings.CutPrefix(text, "-")
		p, err := parsePattern(belowRoot(named, l.w.root), l.w.dir)
		p.Without = without
		if err == nil {
			err = l.filesOf(&p, files)
		}
		if err != nil {
			l.errs = append(l.errs, l.patternError(text, err))
			continue
		}
		parsed = append(parsed, p)
	}
	sorted := slices.SortedFunc(maps.Values(files), func(a, b Label) int { return strings.Compare(a.file(), b.file()) })
	if err := l.w.loadAll(l.ctx, sorted); err != nil {
		return nil, err
	}
	l.asked, l.files = parsed, sorted
	return append(l.distinct(parsed), images...), nil
}

// prefixed splits a text that begins with one of the workspace's prefixes.
func (w *Workspace) prefixed(text string) (prefix, rest string, ok bool) {
	if i := strings.IndexByte(text, ':'); i >= 0 {
		prefix, rest = text[:i+1], text[i+1:]
		_, ok = w.cfg.Prefixes[prefix]
	}
	return prefix, rest, ok
}

// prefixTarget is the target that such a pattern stands for. It belongs to no
// build file.
func (w *Workspace) prefixTarget(prefix, rest string) (*declaration, error) {
	name, step, err := w.cfg.Prefixes[prefix](rest)
	if err != nil {
		return nil, err
	}
	op := strings.TrimSuffix(prefix, ":")
	d := &declaration{m: &module{ws: w, id: prefix, base: Label{Pkg: op}}, op: op, name: name, step: step}
	d.handle.decl = d
	return d, nil
}

func (l *linker) distinct(patterns []targetPattern) []*declaration {
	if len(patterns) == 1 && !patterns[0].Without {
		return l.named(patterns[0])
	}
	var roots []*declaration
	seen := map[*declaration]bool{}
	for _, p := range patterns {
		named := l.named(p)
		if p.Without {
			for _, d := range named {
				delete(seen, d)
			}
			roots = slices.DeleteFunc(roots, func(d *declaration) bool { return !seen[d] })
			continue
		}
		for _, d := range named {
			if !seen[d] {
				seen[d] = true
				roots = append(roots, d)
			}
		}
	}
	return roots
}

// filesOf adds the build files that the pattern needs.
func (l *linker) filesOf(p *targetPattern, files map[string]Label) error {
	if !p.Recursive {
		files[p.Label.file()] = Label{Pkg: p.Label.Pkg, File: p.Label.File}
		return nil
	}
	found, err := l.w.packages(l.ctx, p.Label.Pkg, 0)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return &Error{Label: p.String(), Msg: fmt.Sprintf("there is no %s below //%s", BuildFile, p.Label.Pkg)}
	}
	p.found = found
	for _, base := range found {
		files[base.file()] = base
	}
	return nil
}

// named lists the declarations that a pattern stands for, once its files are loaded.
func (l *linker) named(p targetPattern) []*declaration {
	switch {
	case p.Recursive:
		var all []*declaration
		for _, base := range p.found {
			all = append(all, l.w.wildcard(l.w.loaded(base.file()).order)...)
		}
		return all
	case p.All:
		m := l.w.loaded(p.Label.file())
		if m.missing {
			l.errs = append(l.errs, l.patternError(p.String(), &Error{Label: p.String(), Msg: l.w.missingFile(m)}))
		}
		return l.w.wildcard(m.order)
	}
	d, err := l.w.target(l.w.loaded(p.Label.file()), p.Label)
	if err == nil && p.Label.Output != "" {
		d, err = l.picked(d, p.Label.Output)
	}
	if err == nil && d.source != nil {
		if err = l.w.identify(d); err == nil {
			err = d.source.outside
		}
	}
	if err != nil {
		if !errors.Is(err, errDependency) {
			l.errs = append(l.errs, l.patternError(p.String(), &Error{Label: p.String(), Msg: err.Error(), cause: err}))
		}
		return nil
	}
	return []*declaration{d}
}

// patternError is a mistake in a pattern of the command line, with what may have been meant.
func (l *linker) patternError(pattern string, err error) *Error {
	var done *Error
	if !errors.As(err, &done) {
		done = &Error{Msg: err.Error(), cause: err}
	}
	switch ask, meant := functionAsked(pattern), l.w.patternMeant(pattern); {
	case ask != "":
		done = &Error{Label: pattern, Msg: ask, cause: err}
	case meant != "" && !strings.Contains(done.Msg, "did you mean"):
		done.Msg += meant
	}
	return done
}

// picked stands for one output of a target.
func (l *linker) picked(d *declaration, output string) (*declaration, error) {
	if d.poisoned {
		return d, nil
	}
	if _, ok := d.output(output); !ok {
		return nil, errors.New(d.noOutput(output))
	}
	p := &declaration{m: d.m, op: d.op, name: d.name, doc: d.doc, stack: d.stack, seldom: &seldom{picked: output}}
	p.handle.decl = p
	p.step.Group = []Input{{decl: d, output: output, want: File | Tree}}
	return p, nil
}

// unknownOptions finds the -D values that no loaded file declares.
func (w *Workspace) unknownOptions() []*Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := slices.Sorted(maps.Keys(w.options))
	var errs []*Error
	for _, name := range slices.Sorted(maps.Keys(w.cfg.Options)) {
		if _, elsewhere := w.declared[name]; w.options[name] == nil && !elsewhere {
			msg := fmt.Sprintf("-D %s: no loaded build file declares the option %q (%s)", name, name, Listed(have))
			errs = append(errs, &Error{Msg: Suggest(msg, name, have), cause: ErrOption})
		}
	}
	return errs
}

// What a build goes on with
//
// Once the nodes of a graph are made, a build needs of a target where its results go, and
// nothing of how it was written. What evaluation left (values, calls, operands, targets) is
// most of what a large workspace takes, more than its nodes and the engine's steps. So a
// build that is all that the graph is for gives that up before the first step runs.

// Detached is what is left of a graph.
type Detached struct {
	Targets []Asked
	Left    []LeftOut
	All     [][]Placement // of everything in the graph that has some, these targets included
}

// Asked is a target that was asked for.
type Asked struct {
	Title      string
	File       string       // the build file that it is one of; "" for none
	Wanted     []engine.Ref // see [Target.Wanted]
	Placements []Placement
}

// fate is what is known of a target whose declaration is gone.
type fate struct {
	name   string
	placed []Placement
	usable bool // it was linked, and nothing is wrong with it
}

// Detach returns what a build needs of the graph.
func (g *Graph) Detach() *Detached {
	d := &Detached{Targets: make([]Asked, len(g.Targets)), Left: g.Left}
	for i, t := range g.Targets {
		d.Targets[i] = Asked{Title: t.Title, File: t.File(), Wanted: t.Wanted(), Placements: t.placed}
	}
	for _, t := range g.Deps(g.Targets...) {
		if len(t.placed) > 0 {
			d.All = append(d.All, t.placed)
		}
	}
	return d
}

// errReleased is the error of a workspace that was released.
var errReleased = errors.New("the workspace is of no further use: what was evaluated was given up")

// Release gives up what the calls so far have evaluated. What they read, what lies where
// results were, and which files have mistakes can still be asked; Resolve is an error.
func (w *Workspace) Release() {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = errReleased
	w.sources = map[string]*declaration{}
	w.linkErrs = nil
	for _, m := range w.modules {
		if m.ended() {
			m.release()
		}
	}
}

func (m *module) release() {
	if m.fates != nil {
		return
	}
	m.fates = make([]fate, len(m.order))
	for i, d := range m.order {
		m.fates[i] = d.fate()
	}
	slices.SortFunc(m.fates, func(a, b fate) int { return strings.Compare(a.name, b.name) })
	m.globals, m.targets, m.order, m.unnamed, m.members, m.same = nil, nil, nil, nil, nil, nil
	m.call, m.wanted, m.loads = Call{}, nil, nil
}

func (d *declaration) fate() fate {
	return fate{d.name, d.link.target.placed, d.link.visit == finished && !d.link.failed}
}

// fate is what is known of the target of that name.
func (m *module) fate(name string) (f fate, ok bool) {
	if m.fates != nil {
		i, ok := slices.BinarySearchFunc(m.fates, name, func(f fate, name string) int { return strings.Compare(f.name, name) })
		if !ok {
			return fate{}, false
		}
		return m.fates[i], true
	}
	d := m.targets[name]
	if d == nil {
		return fate{}, false
	}
	return d.fate(), true
}

// placed calls fn for the results of each target.
func (m *module) placed(fn func(Placement)) {
	each := func(f fate) {
		for _, p := range f.placed {
			fn(p)
		}
	}
	for _, f := range m.fates {
		each(f)
	}
	for _, d := range m.order {
		each(d.fate())
	}
}
