package b9_test

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
	"testing"

	load "golang.org/x/tools/go/packages"
)

// unusedExports returns the exported top-level names outside of internal
// directories that no other package and no Example uses, and that are not the
// type of something that one does.
//
// The packages are checked one by one, and what they import comes from export
// data. So an object of a package is another value in each package that uses
// it, and everything here goes by its path and name.
func unusedExports(t *testing.T) []breach {
	t.Helper()
	loaded, err := load.Load(&load.Config{
		Context:    t.Context(),
		Mode:       load.NeedName | load.NeedFiles | load.NeedCompiledGoFiles | load.NeedSyntax | load.NeedTypes | load.NeedTypesInfo | load.NeedImports | load.NeedExportFile,
		BuildFlags: []string{"-tags=libvirt_dlopen"},
		Tests:      true,
	}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	uses := usage{seen: map[string]bool{}}
	for _, p := range loaded {
		for _, e := range p.Errors {
			t.Fatalf("%s: %v", p.ID, e)
		}
		uses.add(p)
	}
	var found []breach
	for _, p := range loaded {
		rel, ok := inModule(p.PkgPath)
		if !ok || p.ID != p.PkgPath || p.Name == "main" || strings.Contains("/"+rel+"/", "/internal/") {
			continue
		}
		scope := p.Types.Scope()
		for _, name := range scope.Names() {
			if token.IsExported(name) && !uses.seen[p.PkgPath+"."+name] {
				found = append(found, breach{"export", rel + "." + name, "no other package and no Example uses it"})
			}
		}
	}
	return found
}

// usage is the names of the module that are used outside of their package, by
// path and name.
type usage struct{ seen map[string]bool }

// add notes what a package uses of others, and what its Examples use at all.
func (u usage) add(p *load.Package) {
	own := strings.TrimSuffix(p.PkgPath, "_test")
	for _, f := range p.Syntax {
		for _, d := range f.Decls {
			fn, _ := d.(*ast.FuncDecl)
			example := fn != nil && fn.Recv == nil && isExample(p, f)
			ast.Inspect(d, func(n ast.Node) bool {
				id, ok := n.(*ast.Ident)
				if !ok {
					return true
				}
				obj := p.TypesInfo.Uses[id]
				if obj != nil && obj.Pkg() != nil && (example || obj.Pkg().Path() != own) {
					u.object(obj)
				}
				return true
			})
		}
	}
}

// isExample reports whether a file holds Examples and what these call, as
// go/doc shows it whole: example_test.go, and example_NAME_test.go.
func isExample(p *load.Package, f *ast.File) bool {
	name := p.Fset.Position(f.Pos()).Filename
	name = name[strings.LastIndexByte(name, '/')+1:]
	return strings.HasPrefix(name, "example_") && strings.HasSuffix(name, "_test.go")
}

// object notes that obj is used, and the types that whoever uses it meets.
func (u usage) object(obj types.Object) {
	if obj.Pkg() == nil { // of the language: any, error
		return
	}
	if _, ok := inModule(obj.Pkg().Path()); !ok {
		return
	}
	if obj.Parent() == obj.Pkg().Scope() {
		key := obj.Pkg().Path() + "." + obj.Name()
		if u.seen[key] {
			return
		}
		u.seen[key] = true
	}
	u.typ(obj.Type())
}

// typ notes the named types in t, and what is exported of them.
func (u usage) typ(t types.Type) {
	switch t := t.(type) {
	case *types.Alias:
		u.object(t.Obj())
		u.typ(types.Unalias(t))
	case *types.Named:
		u.named(t)
	case *types.Pointer:
		u.typ(t.Elem())
	case *types.Slice:
		u.typ(t.Elem())
	case *types.Array:
		u.typ(t.Elem())
	case *types.Chan:
		u.typ(t.Elem())
	case *types.Map:
		u.typ(t.Key())
		u.typ(t.Elem())
	case *types.Tuple:
		for v := range t.Variables() {
			u.typ(v.Type())
		}
	case *types.Signature:
		u.typ(t.Params())
		u.typ(t.Results())
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() {
				u.typ(f.Type())
			}
		}
	case *types.Interface:
		for m := range t.Methods() {
			u.typ(m.Type())
		}
	}
}

// named notes a type and, once, its exported fields and methods.
func (u usage) named(t *types.Named) {
	for arg := range t.TypeArgs().Types() {
		u.typ(arg)
	}
	obj := t.Obj()
	if obj.Pkg() == nil {
		return
	}
	if _, ok := inModule(obj.Pkg().Path()); !ok {
		return
	}
	key := obj.Pkg().Path() + "." + obj.Name()
	if u.seen["type "+key] {
		return
	}
	u.seen["type "+key], u.seen[key] = true, true
	u.typ(t.Underlying())
	for m := range t.Methods() {
		if m.Exported() {
			u.typ(m.Type())
		}
	}
}
