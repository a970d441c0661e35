package style

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// Symbol is what a name at the top of a file stands for.
type Symbol struct {
	Name   string
	Call   string          // how a function is called, such as "join(*parts)"; "" for what is none
	Params []string        // their names
	Doc    string          // of a function
	Pos    engine.Position // of the definition; File is absolute, or a label such as @b9//paths.star
}

// Symbols returns the names at the top of a file, those that it loads among them with the
// places where they are defined. A file with mistakes in its syntax has none.
func (c *Checker) Symbols(f *File) []Symbol {
	tree, err := lang.ParseFile(f.Name, f.Data)
	if err != nil {
		return nil
	}
	var all []Symbol
	for _, s := range tree.Stmts {
		switch s := s.(type) {
		case *syntax.LoadStmt:
			all = append(all, c.loads(f, s)...)
		case *syntax.DefStmt:
			all = append(all, symbolOf(s, f.Path))
		case *syntax.AssignStmt:
			if id, ok := s.LHS.(*syntax.Ident); ok {
				all = append(all, Symbol{Name: id.Name, Pos: placeOf(id.NamePos, f.Path)})
			}
		}
	}
	return all
}

// loads returns what a load statement makes known.
func (c *Checker) loads(f *File, s *syntax.LoadStmt) []Symbol {
	there := map[string]Symbol{}
	for _, known := range c.Exports(f, s.ModuleName()) {
		there[known.Name] = known
	}
	var all []Symbol
	for i, id := range s.To {
		known, ok := there[s.From[i].Name]
		if !ok {
			known.Pos = placeOf(id.NamePos, f.Path)
		}
		known.Name = id.Name
		all = append(all, known)
	}
	return all
}

// Exports returns what a load statement in a file can name of the library with that label;
// nil where it can't be read.
func (c *Checker) Exports(from *File, label string) []Symbol {
	path, open := c.library(from, label)
	if open == nil {
		return nil
	}
	data, err := open()
	if err != nil {
		return nil
	}
	tree, err := lang.ParseFile(path, data)
	if err != nil {
		return nil
	}
	return public(definitions(tree, path))
}

// Document is what a library says of itself, and what it defines for others. The name is
// for people. The error is of its syntax.
func Document(name string, data []byte) (doc string, symbols []Symbol, err error) {
	tree, err := lang.ParseFile(name, data)
	if err != nil {
		return "", nil, err
	}
	return docOf(tree.Stmts), public(definitions(tree, name)), nil
}

// definitions are the functions and values that the top level of a file defines.
func definitions(tree *syntax.File, path string) []Symbol {
	var all []Symbol
	for _, s := range tree.Stmts {
		switch s := s.(type) {
		case *syntax.DefStmt:
			all = append(all, symbolOf(s, path))
		case *syntax.AssignStmt:
			if id, ok := s.LHS.(*syntax.Ident); ok {
				all = append(all, Symbol{Name: id.Name, Pos: placeOf(id.NamePos, path)})
			}
		}
	}
	return all
}

func public(all []Symbol) []Symbol {
	var some []Symbol
	for _, s := range all {
		if !strings.HasPrefix(s.Name, "_") {
			some = append(some, s)
		}
	}
	return some
}

// LibraryPath is the file behind the label of a load statement in a file, absolute; "" for
// one that comes with b9, or that no file can be.
func (c *Checker) LibraryPath(from *File, label string) string {
	path, open := c.library(from, label)
	if open == nil || !filepath.IsAbs(path) {
		return ""
	}
	return path
}

func placeOf(p syntax.Position, path string) engine.Position {
	return engine.Position{File: path, Line: int(p.Line), Col: int(p.Col)}
}

func symbolOf(def *syntax.DefStmt, path string) Symbol {
	var params []string
	for _, p := range def.Params {
		params = append(params, written(p))
	}
	return Symbol{
		Name: def.Name.Name, Call: fmt.Sprintf("%s(%s)", def.Name.Name, strings.Join(params, ", ")),
		Params: callableOf(def).params, Doc: docOf(def.Body), Pos: placeOf(def.Name.NamePos, path),
	}
}

// written is a parameter as a reader wants it: defaults that are no plain values are "...".
func written(p syntax.Expr) string {
	switch p := p.(type) {
	case *syntax.Ident:
		return p.Name
	case *syntax.UnaryExpr:
		if p.X == nil {
			return p.Op.String()
		}
		return p.Op.String() + written(p.X)
	case *syntax.BinaryExpr:
		return written(p.X) + " = " + plain(p.Y)
	}
	return "..."
}

func plain(e syntax.Expr) string {
	switch e := e.(type) {
	case *syntax.Literal:
		return e.Raw
	case *syntax.Ident:
		return e.Name
	case *syntax.ListExpr:
		if len(e.List) == 0 {
			return "[]"
		}
	case *syntax.DictExpr:
		if len(e.List) == 0 {
			return "{}"
		}
	}
	return "..."
}

// Definition returns where the name at a line and column of a file, which count from 1,
// is bound; for one that is loaded, in its library.
func (c *Checker) Definition(f *File, line, col int) (engine.Position, bool) {
	tree, err := c.parse(f)
	if err != nil {
		return engine.Position{}, false
	}
	var found *syntax.Ident
	syntax.Walk(tree, func(n syntax.Node) bool {
		if id, ok := n.(*syntax.Ident); ok && int(id.NamePos.Line) == line && int(id.NamePos.Col) <= col && col <= int(id.NamePos.Col)+len([]rune(id.Name)) {
			found = id
		}
		return true
	})
	if found == nil {
		return engine.Position{}, false
	}
	b, ok := found.Binding.(*resolve.Binding)
	if !ok || b.First == nil {
		return engine.Position{}, false
	}
	at := placeOf(b.First.NamePos, f.Path)
	for _, s := range c.Symbols(f) {
		if s.Name == found.Name && b.Scope == resolve.Global || s.Name == b.First.Name && isLoaded(tree, b.First) {
			return s.Pos, true
		}
	}
	return at, true
}

// isLoaded reports whether an identifier is that of a load statement.
func isLoaded(tree *syntax.File, id *syntax.Ident) bool {
	for _, s := range tree.Stmts {
		if load, ok := s.(*syntax.LoadStmt); ok {
			for _, to := range load.To {
				if to == id {
					return true
				}
			}
		}
	}
	return false
}

// LanguageNames are the words and functions of Starlark itself.
func LanguageNames() []string {
	words := []string{"and", "break", "continue", "def", "elif", "else", "for", "if", "in", "lambda", "load", "not", "or", "pass", "return"}
	return append(append(words, "json", "struct", "testing"), slices.Sorted(maps.Keys(starlark.Universe))...)
}
