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
	"slices"
	"strconv"
	"strings"
	"testing"

	"b9/engine"
)

// TestTheTableHasEveryAction compares the table with the methods of the name
// Kind in the source below this directory.
func TestTheTableHasEveryAction(t *testing.T) {
	var want []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			return err
		}
		want = append(want, kinds(file)...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(Actions())); len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("the table has %q, and the source %q", got, want)
	}
}

// kinds lists what methods of the form func (T) Kind() string return.
func kinds(file *ast.File) []string {
	var list []string
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil || f.Name.Name != "Kind" || len(f.Body.List) != 1 {
			continue
		}
		ret, ok := f.Body.List[0].(*ast.ReturnStmt)
		if !ok || len(ret.Results) != 1 {
			continue
		}
		if lit, ok := ret.Results[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			kind, _ := strconv.Unquote(lit.Value)
			list = append(list, kind)
		}
	}
	return list
}

// TestEveryActionSurvivesItsEncoding fills every field of every action, so that
// one that is forgotten, or is no plain value, is found.
func TestEveryActionSurvivesItsEncoding(t *testing.T) {
	for kind, zero := range Actions() {
		if got := zero().Kind(); got != kind {
			t.Errorf("%s is in the table as %s", got, kind)
		}
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
	case reflect.Uint8, reflect.Uint32:
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
