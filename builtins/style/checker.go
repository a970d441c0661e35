// Package style looks at Starlark files as text: [Format] lays them out, and a [Checker]
// says what is suspicious in them. Nothing is evaluated.
package style

import (
	"cmp"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"go.starlark.net/syntax"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/stdlib"
)

// File is a Starlark file.
type File struct {
	Path string // absolute; "" for one that is in no directory
	Name string // for people
	Data []byte
}

// Finding is something suspicious in a file.
type Finding struct {
	Pos  engine.Position
	Rule string // as `b9 help lint` lists them
	Text string
}

// The rules of a [Checker].
const (
	unusedLoad      = "unused-load"
	unusedVariable  = "unused-variable"
	shadowing       = "shadowing"
	unknownArgument = "unknown-argument"
	deprecated      = "deprecated"
	missingDoc      = "missing-doc"
)

// Checker checks files. It knows the built-ins, and reads the libraries that files load.
type Checker struct {
	root      string // of the workspace, "" outside of one
	built     []lang.Operation
	callables map[string]callable            // the built-ins
	libraries map[string]map[string]callable // functions of a library by its path, which is unique
}

// callable is what can be called, as far as it is known before it is.
type callable struct {
	params     []string
	any        bool // takes keywords of all names
	deprecated string
}

// NewChecker returns one for the files of a workspace with that root ("" for none), in
// which build files find these operations.
func NewChecker(root string, operations []lang.Operation) *Checker {
	c := &Checker{root: root, built: operations, callables: map[string]callable{}, libraries: map[string]map[string]callable{}}
	for _, op := range c.built {
		known := callable{deprecated: deprecation(op.Doc)}
		for _, p := range op.AllParams() {
			known.params = append(known.params, p.Name)
		}
		c.callables[op.Name] = known
	}
	return c
}

// Check returns what it finds in a file, in the order of places. The error is a
// [lang.Errors] for mistakes in the language.
func (c *Checker) Check(f *File) ([]Finding, error) {
	tree, err := c.parse(f)
	if err != nil {
		return nil, err
	}
	l := newListing(c, f, tree)
	l.findUnused()
	l.findShadowing()
	l.findMissingDocs()
	l.findCalls()
	slices.SortStableFunc(l.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Col, b.Pos.Col))
	})
	return l.found, nil
}

func (c *Checker) parse(f *File) (*syntax.File, error) {
	tree, err := lang.ParseFile(f.Name, f.Data)
	if err != nil {
		return nil, err
	}
	return tree, lang.Resolve(tree, c.built)
}

// loaded returns the functions of the library that a load statement in a file names;
// nil where it can't be read.
func (c *Checker) loaded(from *File, label string) map[string]callable {
	name, open := c.library(from, label)
	if open == nil {
		return nil
	}
	functions, ok := c.libraries[name]
	if !ok {
		if data, err := open(); err == nil {
			functions = functionsOf(name, data)
		}
		c.libraries[name] = functions
	}
	return functions
}

// library is the place of a library, and what reads it.
func (c *Checker) library(from *File, label string) (name string, open func() ([]byte, error)) {
	pkg, file, _ := strings.Cut(label, ":")
	below, rooted := strings.CutPrefix(pkg, "//")
	switch built, ok := strings.CutPrefix(label, "@b9//"); {
	case ok:
		return label, func() ([]byte, error) { return fs.ReadFile(stdlib.FS, built) }
	case rooted && c.root != "":
		name = filepath.Join(c.root, filepath.FromSlash(path.Join(below, file)))
	case pkg == "" && from.Path != "":
		name = filepath.Join(filepath.Dir(from.Path), filepath.FromSlash(file))
	default:
		return "", nil
	}
	return name, func() ([]byte, error) { return engine.ReadSmall(name, lang.MaxFile) }
}

// functionsOf returns the functions that a file defines at its top.
func functionsOf(name string, data []byte) map[string]callable {
	tree, err := lang.ParseFile(name, data)
	if err != nil {
		return nil
	}
	functions := map[string]callable{}
	for _, s := range tree.Stmts {
		if def, ok := s.(*syntax.DefStmt); ok {
			functions[def.Name.Name] = callableOf(def)
		}
	}
	return functions
}

func callableOf(def *syntax.DefStmt) callable {
	known := callable{deprecated: deprecation(docOf(def.Body))}
	for _, p := range def.Params {
		switch p := p.(type) {
		case *syntax.UnaryExpr:
			known.any = known.any || p.Op == syntax.STARSTAR
		default:
			if id := parameter(p); id != nil {
				known.params = append(known.params, id.Name)
			}
		}
	}
	return known
}

// parameter is the name of a parameter; nil for a lone star.
func parameter(p syntax.Expr) *syntax.Ident {
	switch p := p.(type) {
	case *syntax.Ident:
		return p
	case *syntax.BinaryExpr:
		return parameter(p.X)
	case *syntax.UnaryExpr:
		return parameter(p.X)
	}
	return nil
}

// docOf is the docstring with which statements begin, or "".
func docOf(body []syntax.Stmt) string {
	if len(body) == 0 {
		return ""
	}
	if s, ok := body[0].(*syntax.ExprStmt); ok {
		if text, ok := s.X.(*syntax.Literal); ok && text.Token == syntax.STRING {
			return text.Value.(string)
		}
	}
	return ""
}

// deprecation is what a docstring says in a line that begins with "Deprecated:".
func deprecation(doc string) string {
	for line := range strings.Lines(doc) {
		if why, ok := strings.CutPrefix(strings.TrimSpace(line), "Deprecated:"); ok {
			return strings.TrimSpace(why)
		}
	}
	return ""
}
