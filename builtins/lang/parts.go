package lang

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine"
)

// Parts of a workspace
//
// When one file of many has changed, what was found out about the others holds as
// long as they rest on nothing that changed. So a workspace keeps by file what it read
// for it, and which other files it looked at: those that it loads, and those whose
// targets it names. A change that shows in none of that has no effect on the targets of
// the file. Directories that were searched for build files belong to none of them:
// they tell which files there are.

// Part is what evaluation and linking had to do with one build file or library.
type Part struct {
	File    string         // its path below the root, or @b9//NAME.star
	Stamps  []engine.Stamp // of what was read for it, or looked for in vain, before that
	Needs   []string       // the files that it rests on, beside itself
	Options []string       // what it says of each option: its name and a space first
	Printed string         // what it wrote for the user
}

// restsOn is what the part of a module is made of.
type restsOn struct {
	stamps  []engine.Stamp       // guarded by Workspace.mu
	modules map[*module]struct{} // likewise
	sources []*sourceFile        // guarded by Workspace.resolving
	options []string             // of its own goroutine
	printed []byte               // guarded by Workspace.stderr
}

// add notes a module. The caller holds Workspace.mu.
func (r *restsOn) add(m *module) {
	if r.modules == nil {
		r.modules = map[*module]struct{}{}
	}
	r.modules[m] = struct{}{}
}

// rests notes that the module rests on another one.
func (m *module) rests(on *module) {
	if m == on {
		return
	}
	m.ws.mu.Lock()
	defer m.ws.mu.Unlock()
	m.restsOn.add(on)
}

// reads returns the host path of a file or directory that is about to be read for the
// module, and notes that it is.
func (m *module) reads(rel string) string {
	full := filepath.Join(m.ws.root, filepath.FromSlash(rel))
	m.readsAt(full)
	return full
}

// readsAt is reads for a path of the host.
func (m *module) readsAt(full string) {
	s := engine.StampOf(full)
	m.ws.mu.Lock()
	defer m.ws.mu.Unlock()
	m.restsOn.stamps = append(m.restsOn.stamps, s)
}

// lists is reads for a directory that is searched for build files.
func (w *Workspace) lists(rel string) string {
	full := filepath.Join(w.root, filepath.FromSlash(rel))
	s := engine.StampOf(full)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed = append(w.listed, s)
	return full
}

// Listed are the stamps of the directories that the calls so far searched for build files.
func (w *Workspace) Listed() []engine.Stamp {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.listed)
}

// Parts lists the files that the calls so far evaluated, by name. Together with [Listed],
// the options, the configuration and the embedded libraries that is all that their
// graphs depend on.
func (w *Workspace) Parts() []Part {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	parts := make([]Part, 0, len(w.modules))
	for _, id := range slices.Sorted(maps.Keys(w.modules)) {
		r := &w.modules[id].restsOn
		p := Part{File: id, Options: r.options, Printed: string(r.printed), Stamps: slices.Clone(r.stamps)}
		for _, s := range r.sources {
			p.Stamps = append(p.Stamps, s.stamp)
		}
		p.Stamps = distinctStamps(p.Stamps)
		for m := range r.modules {
			p.Needs = append(p.Needs, m.id)
		}
		slices.Sort(p.Needs)
		parts = append(parts, p)
	}
	return parts
}

// Stamps lists every file and directory that the calls so far have read, or
// have looked for in vain, each as it was before. It leaves out what only the
// steps read.
func (w *Workspace) Stamps() []engine.Stamp {
	all := w.Listed()
	for _, p := range w.Parts() {
		all = append(all, p.Stamps...)
	}
	return distinctStamps(all)
}

// distinctStamps sorts stamps, and leaves the youngest of equal ones.
func distinctStamps(all []engine.Stamp) []engine.Stamp {
	slices.SortFunc(all, func(a, b engine.Stamp) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Sign, b.Sign), cmp.Compare(a.Age, b.Age))
	})
	return slices.CompactFunc(all, func(a, b engine.Stamp) bool { return a.Path == b.Path && a.Sign == b.Sign })
}

// Files lists the build files that a pattern such as //pkg/... stands for, in the order in
// which their targets come. It is nil, without an error, for any other pattern.
func (w *Workspace) Files(ctx context.Context, pattern string) ([]string, error) {
	if _, _, ok := w.prefixed(pattern); ok {
		return nil, nil
	}
	p, err := parsePattern(belowRoot(pattern, w.root), w.dir)
	if err != nil || !p.Recursive {
		return nil, nil // Resolve tells what is wrong
	}
	found, err := w.packages(ctx, p.Label.Pkg, 0)
	files := make([]string, len(found))
	for i, base := range found {
		files[i] = base.file()
	}
	return files, err
}

// ResolveFiles is [Workspace.Resolve] for all targets of build files that Files listed.
// options are what other files say of options, see [Part]: a declaration here has to
// agree, and a value of the command line that only they take is no mistake.
func (w *Workspace) ResolveFiles(ctx context.Context, files, options []string) (*Graph, error) {
	w.resolving.Lock()
	defer w.resolving.Unlock()
	w.declared = map[string]string{}
	for _, said := range options {
		name, _, _ := strings.Cut(said, " ")
		w.declared[name] = said
	}
	bases := make([]Label, len(files))
	for i, file := range files {
		pkg, name, err := splitFile(file)
		if err != nil {
			return nil, err
		}
		bases[i] = Label{Pkg: pkg, File: name}
	}
	g, err := w.graphOf(ctx, func(l *linker) ([]*declaration, error) {
		if err := w.loadAll(ctx, bases); err != nil {
			return nil, err
		}
		l.files = bases
		return l.named(targetPattern{Recursive: true, found: bases}), nil
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// File is the build file that the target is one of; "" for none.
func (t *Target) File() string {
	if t.decl.m == nil {
		return ""
	}
	return t.decl.m.id
}
