package lang

import (
	"fmt"
	"slices"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"b9.build/b9/engine"
)

// What is asked for in vain is no mistake, but hardly what was meant: a step that no
// target needs, which is never run, and a pattern that names no target. A warning says
// so, with the place, for the build files that were asked for; those that they load or
// name targets of are somebody else's affair.

// warn tells what is in vain, once for a file.
func (l *linker) warn() {
	for _, base := range l.files {
		if m := l.w.loaded(base.file()); m != nil && !m.told {
			m.told = true
			m.warnUnneeded()
		}
	}
	for _, p := range l.asked {
		l.warnEmpty(p)
	}
}

// warnEmpty warns of a pattern that names no target.
func (l *linker) warnEmpty(p targetPattern) {
	if !p.All && !p.Recursive || len(l.named(p)) > 0 {
		return
	}
	files := p.found
	if p.All {
		files = []Label{p.Label}
	}
	if i := slices.IndexFunc(files, func(at Label) bool { m := l.w.loaded(at.file()); return m != nil && len(m.order) > 0 }); i >= 0 {
		m := l.w.loaded(files[i].file())
		m.warnf("%s: warning: %s names no target: %s", engine.Position{File: m.id, Line: 1, Col: 1}, p, l.w.whyUnwanted())
		return
	}
	more := ""
	if n := len(files) - 1; n > 0 {
		more = fmt.Sprintf(", and so it is with %d more", n)
	}
	m := l.w.loaded(files[0].file())
	m.warnf("%s: warning: %s names no target: no step in this file has a name%s", engine.Position{File: m.id, Line: 1, Col: 1}, p, more)
}

// whyUnwanted says what leaves out every target that there is.
func (w *Workspace) whyUnwanted() string {
	if len(w.cfg.Tags) > 0 {
		return fmt.Sprintf("--tags=%s leaves out all that there are", strings.Join(w.cfg.Tags, ","))
	}
	return fmt.Sprintf("all that there are have the tag %q: name them", manual)
}

// warnUnneeded warns of the calls of the file whose steps no target needs. A call of a
// rule counts as a whole, since a rule may make more than one use of it needs.
func (m *module) warnUnneeded() {
	if len(m.unnamed) == 0 {
		return
	}
	needed := m.needed()
	useful := map[engine.Position]bool{}
	for _, d := range m.order {
		useful[d.outermost()] = true
	}
	for _, d := range m.unnamed {
		if needed[d] {
			useful[d.outermost()] = true
		}
	}
	for _, d := range m.unnamed {
		if at := d.outermost(); !useful[at] {
			useful[at] = true
			m.warnf("%s: warning: no target needs this step, so it is never run: give it a name, or drop it", at)
		}
	}
}

// outermost is the call in the build file itself.
func (d *declaration) outermost() engine.Position { return d.stack[len(d.stack)-1] }

// needed is every step that the targets of the file need, or that other files may get
// out of it by load().
func (m *module) needed() map[*declaration]bool {
	stack := append([]*declaration(nil), m.order...)
	if m.base.File != "" {
		for _, v := range m.globals {
			stack = append(stack, stepsIn(v, 0)...)
		}
	}
	seen := map[*declaration]bool{}
	for len(stack) > 0 {
		d := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[d] {
			continue
		}
		seen[d] = true
		for in := range d.inputs() {
			if in.decl != nil {
				stack = append(stack, in.decl)
			}
		}
	}
	return seen
}

// maxNested is how deep the values of a file are searched for steps.
const maxNested = 16

// stepsIn lists the steps that a value holds.
func stepsIn(v starlark.Value, depth int) []*declaration {
	if depth > maxNested {
		return nil
	}
	var found []*declaration
	each := func(v starlark.Value) { found = append(found, stepsIn(v, depth+1)...) }
	switch v := v.(type) {
	case *Handle:
		return []*declaration{v.decl}
	case *starlarkstruct.Struct:
		for _, name := range v.AttrNames() {
			if field, err := v.Attr(name); err == nil {
				each(field)
			}
		}
	case starlark.IterableMapping:
		for _, item := range v.Items() {
			each(item[1])
		}
	case starlark.Iterable:
		for item := range starlark.Elements(v) {
			each(item)
		}
	}
	return found
}
