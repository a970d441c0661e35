package builtins

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/engine"
)

// TestTheTableHasEveryAction compares the table with the source below this
// directory: with every kind that the method Kind of a type with a method Run
// returns.
func TestTheTableHasEveryAction(t *testing.T) {
	kinds, runs := map[string][]string{}, map[string]bool{} // by type
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			switch {
			case !ok || f.Recv == nil:
			case f.Name.Name == "Kind":
				kinds[typeOf(name, f)] = returned(f)
			case f.Name.Name == "Run":
				runs[typeOf(name, f)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for typ := range runs {
		if len(kinds[typ]) == 0 {
			t.Errorf("%s: the method Kind returns no literal such as \"resize/1\"", typ)
		}
		for _, kind := range kinds[typ] {
			want[kind] = typ
		}
	}
	for kind, zero := range Actions() {
		got[kind] = reflect.TypeOf(zero()).Elem().String()
	}
	if len(want) < 20 || !maps.Equal(got, want) {
		t.Errorf("the table has %q, and the source %q", got, want)
	}
}

// typeOf is the type that a method in the file belongs to, with its package.
func typeOf(file string, f *ast.FuncDecl) string {
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	name, _ := typ.(*ast.Ident)
	pkg := filepath.Base(filepath.Dir(file))
	if pkg == "." {
		pkg = "builtins"
	}
	return pkg + "." + name.Name
}

// returned lists the strings that a function returns as literals.
func returned(f *ast.FuncDecl) []string {
	var list []string
	ast.Inspect(f, func(n ast.Node) bool {
		ret, ok := n.(*ast.ReturnStmt)
		if !ok || len(ret.Results) != 1 {
			return true
		}
		if lit, ok := ret.Results[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value)
			list = append(list, text)
		}
		return true
	})
	return list
}

// TestEveryActionSurvivesItsEncoding fills every field of every action, so that
// one that is forgotten, or is no plain value, is found.
func TestEveryActionSurvivesItsEncoding(t *testing.T) {
	for kind, zero := range Actions() {
		want := zero()
		fill(t, reflect.ValueOf(want).Elem(), new(int))
		for _, a := range []engine.Action{want, zero()} {
			data, err := engine.EncodeAction(a)
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			got, err := engine.DecodeAction(Actions(), data)
			if err != nil || !reflect.DeepEqual(got, a) {
				t.Errorf("%s: %+v became %+v (%v)", kind, a, got, err)
			}
		}
	}
}

// fill gives every value that v is made of another one, none of them zero.
func fill(t *testing.T, v reflect.Value, count *int) {
	t.Helper()
	*count++
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprintf("text \xff %d", *count))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*count))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*count % 200))
	case reflect.Float64:
		v.SetFloat(float64(*count) / 3)
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				t.Errorf("%s.%s is not exported", v.Type(), v.Type().Field(i).Name)
				continue
			}
			fill(t, v.Field(i), count)
		}
	case reflect.Slice:
		if *count > 1000 { // a type that holds itself
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			if v.Type().Elem() != v.Type() {
				fill(t, v.Index(i), count)
			}
		}
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key, count)
		fill(t, value, count)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), count)
	default:
		t.Errorf("no value for a %s", v.Type())
	}
}
