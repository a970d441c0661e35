package lang

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang/outline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/near"
	"b9.build/b9/stdlib"
)

// loadFor answers a load() statement of the module: it evaluates the other
// file, or waits for whoever is doing so.
func (w *Workspace) loadFor(ctx context.Context, from *module, label string) (starlark.StringDict, error) {
	id, base, library, err := from.loadTarget(label)
	if err != nil {
		return nil, from.loadError(label, err.Error()+from.loadMeant(label), nil)
	}
	m, err := w.await(ctx, from, label, id, base, library)
	if err != nil {
		return nil, err
	}
	if m.missing {
		msg := w.missingFile(m)
		if !strings.Contains(msg, "did you mean") {
			msg += from.loadMeant(label)
		}
		return nil, from.loadError(label, msg, fs.ErrNotExist)
	}
	if m.failed {
		return nil, errDependency
	}
	return m.globals, from.checkWanted(label, m.globals)
}

// loadTarget maps the label of a load() statement to a file.
func (m *module) loadTarget(label string) (id string, base Label, library bool, err error) {
	if name, ok := strings.CutPrefix(label, libraryPrefix); ok {
		if name == "" || path.Base(name) != name || !strings.HasSuffix(name, ".star") {
			return "", Label{}, false, fmt.Errorf(`bad library %q: write "@b9//NAME.star"`, label)
		}
		return label, Label{File: name}, true, nil
	}
	pkg, file, colon := strings.Cut(label, ":")
	switch {
	case strings.HasPrefix(pkg, "//") && colon:
		pkg = pkg[2:]
	case pkg == "" && colon && !m.library:
		pkg = m.base.Pkg
	case pkg == "" && colon:
		return libraryPrefix + file, Label{File: file}, true, checkPath(file, "library")
	default:
		return "", Label{}, false, fmt.Errorf(`cannot load %q: write "//pkg:file.star", ":file.star" for the same directory, or "@b9//NAME.star"`, label)
	}
	if m.library {
		return "", Label{}, false, fmt.Errorf("a library cannot load %q from the workspace", label)
	}
	full := path.Join(pkg, file)
	if !strings.HasSuffix(file, ".star") {
		return "", Label{}, false, fmt.Errorf("cannot load %q: the name of a build file or library ends in .star", label)
	}
	if err := errors.Join(checkPackage(pkg), checkPath(file, "file")); err != nil {
		return "", Label{}, false, fmt.Errorf("cannot load %q: %w", label, err)
	}
	pkg, file, err = splitFile(full)
	return full, Label{Pkg: pkg, File: file}, false, err
}

// await evaluates the module, or waits until another goroutine has, unless
// that goroutine waits for the asking module.
func (w *Workspace) await(ctx context.Context, from *module, label, id string, base Label, library bool) (*module, error) {
	w.mu.Lock()
	m, mine := w.claimLocked(id, base, library)
	from.blockedOn, from.blockedAt = m, from.loads[label]
	from.restsOn.add(m)
	cycle := from.cycle()
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		from.blockedOn = nil
		w.mu.Unlock()
	}()
	if cycle != nil {
		return nil, cycle
	}
	if !w.finish(ctx, m, mine) {
		return nil, errDependency
	}
	return m, nil
}

// cycle is the error of a module that waits, through others, for itself. It
// is the same whichever module of the cycle finds it. ws.mu must be held.
func (m *module) cycle() error {
	var ring []*module
	for x := m; ; x = x.blockedOn {
		if x == nil {
			return nil
		}
		ring = append(ring, x)
		if x.blockedOn == m {
			break
		}
		if len(ring) > len(m.ws.modules) {
			return nil // leads into a cycle that m is not part of
		}
	}
	ring = fromLeast(ring, func(a, b *module) int { return strings.Compare(a.id, b.id) })
	var names strings.Builder
	e := &Error{Pos: ring[0].blockedAt}
	for _, x := range ring {
		names.WriteString(x.id + " -> ")
	}
	e.Msg = "load cycle: " + names.String() + ring[0].id
	for _, x := range ring[1:] {
		e.Msg += fmt.Sprintf("\n\t%s loads %s", x.blockedAt, x.blockedOn.id)
	}
	return e
}

// fromLeast turns a ring so that it begins with its least element.
func fromLeast[T comparable](ring []T, compare func(a, b T) int) []T {
	first := slices.Index(ring, slices.MinFunc(ring, compare))
	return append(ring[first:], ring[:first]...)
}

// loadError places a message at the load() statement.
func (m *module) loadError(label, msg string, cause error) error {
	pos, ok := m.loads[label]
	if !ok {
		pos = engine.Position{File: m.id, Line: 1, Col: 1}
	}
	return &Error{Pos: pos, Msg: msg, cause: cause}
}

// checkWanted finds the names that the loaded file does not have.
func (m *module) checkWanted(label string, globals starlark.StringDict) error {
	for _, want := range m.wanted[label] {
		if globals.Has(want.name) {
			continue
		}
		have := slices.DeleteFunc(globals.Keys(), func(name string) bool { return strings.HasPrefix(name, "_") })
		return &Error{Pos: want.pos, Msg: Unknown(label+" has no", want.name, have)}
	}
	return nil
}

// missingFile says that a file is absent, and which one may have been meant.
func (w *Workspace) missingFile(m *module) string {
	if m.library {
		names, _ := fs.Glob(stdlib.FS, "*.star")
		for i := range names {
			names[i] = libraryPrefix + names[i]
		}
		return Suggest(fmt.Sprintf("there is no library %s (%s)", m.id, Listed(names)), m.id, names)
	}
	if m.base.File == "" {
		return w.missingPackage(m.base.Pkg)
	}
	names, _ := fs.Glob(os.DirFS(filepath.Join(w.root, filepath.FromSlash(m.base.Pkg))), "*.star")
	for i := range names {
		names[i] = path.Join(m.base.Pkg, names[i])
	}
	return Suggest(fmt.Sprintf("there is no file %s", m.id), m.id, names)
}

func (w *Workspace) missingPackage(pkg string) string {
	msg := fmt.Sprintf("there is no package //%s: %s does not exist", pkg, path.Join(pkg, BuildFile))
	files, err := w.packages(context.Background(), "", 10_000)
	if err != nil {
		return msg
	}
	names := make([]string, len(files))
	for i, base := range files {
		names[i] = base.Pkg
	}
	slices.Sort(names)
	if best := near.Match(pkg, names); best != "" {
		msg += fmt.Sprintf(": did you mean %q?", "//"+best)
	}
	return msg
}

// loadMeant is the end of an error about the label of a load() statement: a file that is
// there under another way to write it, or "".
func (m *module) loadMeant(label string) string {
	name := strings.TrimPrefix(strings.TrimPrefix(label, libraryPrefix), ":")
	if !strings.HasSuffix(name, ".star") {
		name += ".star"
	}
	var list []string
	if dir, file, ok := cutLast(name); ok {
		below := strings.Trim(dir, "/")
		list = []string{"//" + below + ":" + file, "//" + path.Join(m.base.Pkg, below) + ":" + file}
	} else if strings.HasPrefix(name, "//") {
		list = []string{name}
	} else {
		list = []string{":" + name, libraryPrefix + name, "//:" + name}
	}
	for _, text := range list {
		if m.hasFile(text) {
			return fmt.Sprintf(": did you mean %q?", text)
		}
	}
	return ""
}

// hasFile reports whether there is the file that the label of a load() names.
func (m *module) hasFile(label string) bool {
	id, _, library, err := m.loadTarget(label)
	switch {
	case err != nil:
		return false
	case library:
		_, err = fs.Stat(stdlib.FS, strings.TrimPrefix(id, libraryPrefix))
	default:
		_, err = os.Stat(filepath.Join(m.ws.root, filepath.FromSlash(id)))
	}
	return err == nil
}

// loadLine is the load() statement that defines a name which a file uses without one,
// of the libraries that come with b9, or of those beside the file; or "".
func (m *module) loadLine(name string) string {
	for _, file := range libraries() {
		if slices.Contains(file.names, name) {
			return fmt.Sprintf("load(%q, %q)", file.label, name)
		}
	}
	if m.library {
		return ""
	}
	beside, _ := fs.Glob(os.DirFS(filepath.Join(m.ws.root, filepath.FromSlash(m.base.Pkg))), "*.star")
	for _, file := range beside {
		if id := path.Join(m.base.Pkg, file); id == m.id || file == BuildFile {
			continue
		}
		src, err := readSource(filepath.Join(m.ws.root, filepath.FromSlash(m.base.Pkg), file))
		if err == nil && slices.Contains(functionsIn(file, src), name) {
			return fmt.Sprintf("load(%q, %q)", ":"+file, name)
		}
	}
	return ""
}

// library is what load() finds in a file.
type library struct {
	label string
	names []string
}

// libraries are those that come with b9.
var libraries = sync.OnceValue(func() []library {
	var all []library
	files, _ := fs.Glob(stdlib.FS, "*.star")
	for _, file := range files {
		src, _ := stdlib.FS.ReadFile(file)
		all = append(all, library{libraryPrefix + file, functionsIn(file, src)})
	}
	return all
})

// libraryNames lists what load() finds in them.
func libraryNames() []string {
	var names []string
	for _, l := range libraries() {
		names = append(names, l.names...)
	}
	return names
}

// functionsIn lists the functions that the text of a file defines for others.
func functionsIn(file string, src []byte) []string {
	tree, err := fileOptions().Parse(file, src, 0)
	if err != nil {
		return nil
	}
	return outline.Functions(tree)
}
