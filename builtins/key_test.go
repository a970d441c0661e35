package builtins

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestOnlyTheseFieldsAreNotInTheKey lists every field of an action that does
// not count for the result. The engine refuses a field that it can't put into
// a key, so this list is the only way for one to be left out.
func TestOnlyTheseFieldsAreNotInTheKey(t *testing.T) {
	want := []string{
		"archiveState.Apt",
		"archiveState.Refresh",
		"archiveState.Users",
		"bootTest.CPUs", "bootTest.Memory", "bootTest.Timeout",
		"bootstrap.Apt",
		"bootstrap.Refresh",
		"bootstrap.Users",
		"document.At",
		"document.Name",
		"erlangText.Name",
		"expandTemplate.Name",
		"lxcExec.Attempts", "lxcExec.File", "lxcExec.Lengths", "lxcExec.Timeout",
		"publication.From",
		"reference.Default",
		"reference.Digest",
		"reference.Image",
		"reference.Loose",
		"reference.Repo",
		"reference.Root",
		"reference.Version",
		"remoteFile.URLs",
		"secretDigest.Origin",
		"secretFile.Origin",
		"treeEntry.From",
	}
	var got []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err == nil {
			got = append(got, untracked(file)...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("fields tagged `key:\"-\"` are %v, want %v", got, want)
	}
}

// untracked lists the fields of the file's structs that are tagged `key:"-"`.
func untracked(file *ast.File) []string {
	var fields []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				if f.Tag != nil && strings.Contains(f.Tag.Value, `key:"-"`) {
					for _, name := range f.Names {
						fields = append(fields, spec.Name.Name+"."+name.Name)
					}
				}
			}
		}
		return true
	})
	return fields
}
