package style

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/near"
)

// binder is the way in which a name comes to stand for something.
type binder int

const (
	byLoad binder = iota
	byAssignment
	byLoop
	byDefinition
	byParameter
	byUnpacking // of several values at once
)

// listing is a file taken apart: what binds names, and how often they are used.
type listing struct {
	checker *Checker
	file    *File
	tree    *syntax.File
	found   []Finding

	bound map[*syntax.Ident]binder // every occurrence that binds a name
	order []*syntax.Ident          // these in the order of the file
	uses  map[*syntax.Ident]int    // by the first occurrence that binds the name
	known map[string]callable      // what names at the top of the file stand for, where that can be called
}

func newListing(c *Checker, f *File, tree *syntax.File) *listing {
	l := &listing{checker: c, file: f, tree: tree, bound: map[*syntax.Ident]binder{}, uses: map[*syntax.Ident]int{}, known: map[string]callable{}}
	syntax.Walk(tree, l.bind)
	syntax.Walk(tree, func(n syntax.Node) bool {
		if id, ok := n.(*syntax.Ident); ok {
			if _, binds := l.bound[id]; !binds {
				if b, ok := id.Binding.(*resolve.Binding); ok {
					l.uses[b.First]++
				}
			}
		}
		return true
	})
	return l
}

// bind notes the names that a statement binds.
func (l *listing) bind(n syntax.Node) bool {
	switch n := n.(type) {
	case *syntax.LoadStmt:
		l.bindLoad(n)
	case *syntax.AssignStmt:
		if n.Op == syntax.EQ {
			l.bindTo(n.LHS, byAssignment)
		}
	case *syntax.ForStmt:
		l.bindTo(n.Vars, byLoop)
	case *syntax.ForClause:
		l.bindTo(n.Vars, byUnpacking) // which often counts only
	case *syntax.DefStmt:
		l.note(n.Name, byDefinition)
		if slices.Contains(l.tree.Stmts, syntax.Stmt(n)) {
			l.known[n.Name.Name] = callableOf(n)
		}
		l.bindParams(n.Params)
	case *syntax.LambdaExpr:
		l.bindParams(n.Params)
	}
	return true
}

func (l *listing) bindLoad(n *syntax.LoadStmt) {
	functions := l.checker.loaded(l.file, n.ModuleName())
	for i, id := range n.To {
		l.note(id, byLoad)
		if f, ok := functions[n.From[i].Name]; ok {
			l.known[id.Name] = f
		}
	}
}

func (l *listing) bindParams(params []syntax.Expr) {
	for _, p := range params {
		if id := parameter(p); id != nil {
			l.note(id, byParameter)
		}
	}
}

func (l *listing) bindTo(e syntax.Expr, how binder) {
	switch e := e.(type) {
	case *syntax.Ident:
		l.note(e, how)
	case *syntax.ParenExpr:
		l.bindTo(e.X, how)
	case *syntax.TupleExpr:
		for _, x := range e.List {
			l.bindTo(x, byUnpacking)
		}
	case *syntax.ListExpr:
		for _, x := range e.List {
			l.bindTo(x, byUnpacking)
		}
	}
}

func (l *listing) note(id *syntax.Ident, how binder) {
	l.bound[id] = how
	l.order = append(l.order, id)
}

// say adds a finding at a place.
func (l *listing) say(at syntax.Position, rule, format string, args ...any) {
	pos := engine.Position{File: l.file.Name, Line: int(at.Line), Col: int(at.Col)}
	l.found = append(l.found, Finding{Pos: pos, Rule: rule, Text: fmt.Sprintf(format, args...)})
}

// scope is where the name of an occurrence that binds it is seen.
func scope(id *syntax.Ident) (first *syntax.Ident, local bool) {
	b, ok := id.Binding.(*resolve.Binding)
	if !ok {
		return id, false
	}
	return b.First, b.Scope == resolve.Local || b.Scope == resolve.Cell
}

// findUnused finds loads and variables that nothing uses. A name that begins with an
// underscore in a function says so itself; at the top of a file others can't use it.
func (l *listing) findUnused() {
	seen := map[*syntax.Ident]bool{}
	for _, id := range l.order {
		how := l.bound[id]
		first, local := scope(id)
		if l.uses[first] > 0 || seen[first] {
			continue
		}
		seen[first] = true
		private := strings.HasPrefix(id.Name, "_")
		switch {
		case how == byLoad:
			l.say(id.NamePos, unusedLoad, "nothing uses %s, which is loaded here", id.Name)
		case how == byLoop && !private && local:
			l.say(id.NamePos, unusedVariable, "nothing uses %s: a name such as _%s says that it only counts", id.Name, id.Name)
		case how == byAssignment && local && !private, (how == byAssignment || how == byDefinition) && !local && private:
			l.say(id.NamePos, unusedVariable, "nothing uses %s", id.Name)
		}
	}
}

// findShadowing finds names that hide one that every file has. Parameters are no
// surprise: callers write their names.
func (l *listing) findShadowing() {
	for _, id := range l.order {
		if first, _ := scope(id); first != id || l.bound[id] == byParameter {
			continue
		}
		if _, built := l.checker.callables[id.Name]; built {
			l.say(id.NamePos, shadowing, "%s hides the built-in %s() from here on", id.Name, id.Name)
		} else if starlark.Universe.Has(id.Name) {
			l.say(id.NamePos, shadowing, "%s hides what Starlark calls %s", id.Name, id.Name)
		}
	}
}

// findMissingDocs finds public functions without docstrings in libraries: files that
// declare no targets of their own.
func (l *listing) findMissingDocs() {
	if filepath.Base(l.file.Name) == lang.BuildFile || strings.HasSuffix(l.file.Name, lang.TestSuffix) || l.declares() {
		return
	}
	for _, s := range l.tree.Stmts {
		if def, ok := s.(*syntax.DefStmt); ok && !strings.HasPrefix(def.Name.Name, "_") && docOf(def.Body) == "" {
			l.say(def.Name.NamePos, missingDoc, "%s() has no docstring, and others can load it", def.Name.Name)
		}
	}
}

// declares reports whether the file calls something outside of functions.
func (l *listing) declares() bool {
	return slices.ContainsFunc(l.tree.Stmts, func(s syntax.Stmt) bool {
		x, ok := s.(*syntax.ExprStmt)
		if !ok {
			return false
		}
		_, call := x.X.(*syntax.CallExpr)
		return call
	})
}

// findCalls looks at the calls of functions that are known.
func (l *listing) findCalls() {
	syntax.Walk(l.tree, func(n syntax.Node) bool {
		if call, ok := n.(*syntax.CallExpr); ok {
			l.checkCall(call)
		}
		return true
	})
}

func (l *listing) checkCall(call *syntax.CallExpr) {
	id, ok := call.Fn.(*syntax.Ident)
	if !ok {
		return
	}
	known, ok := l.callee(id)
	if !ok {
		return
	}
	if known.deprecated != "" {
		l.say(id.NamePos, deprecated, "%s() is deprecated: %s", id.Name, known.deprecated)
	}
	for _, arg := range call.Args {
		given, ok := arg.(*syntax.BinaryExpr)
		if !ok || given.Op != syntax.EQ || known.any {
			continue
		}
		if name := given.X.(*syntax.Ident); !slices.Contains(known.params, name.Name) {
			l.say(name.NamePos, unknownArgument, "%s() has no parameter %s%s", id.Name, name.Name, near.Hint(name.Name, known.params))
		}
	}
}

// callee is what a name stands for where it is called, as far as that is sure.
func (l *listing) callee(id *syntax.Ident) (callable, bool) {
	b, ok := id.Binding.(*resolve.Binding)
	if !ok {
		return callable{}, false
	}
	switch {
	case b.Scope == resolve.Predeclared:
		known, ok := l.checker.callables[id.Name]
		return known, ok
	case b.Scope == resolve.Global || b.First != nil && l.bound[b.First] == byLoad:
		known, ok := l.known[id.Name]
		return known, ok
	}
	return callable{}, false
}
