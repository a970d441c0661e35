package lang

import (
	"testing"

	"go.starlark.net/syntax"
)

func TestTypeNames(t *testing.T) {
	for want, typ := range map[string]Type{
		"string":                            String,
		"string or int":                     String | Int,
		"file (handle, label or path)":      File,
		"string or list of strings":         String | ListOf(String),
		"dict of files or directories":      DictOf(File | Tree),
		"list of ints or dict of strings":   ListOf(Int) | DictOf(String),
		"dict of directories or writable()": DictOf(Tree | WritableTree),
		"any value":                         Value,
	} {
		if got := typ.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestGuardedNamesCannotBeWritten holds that no build file can name a guard.
func TestGuardedNamesCannotBeWritten(t *testing.T) {
	for _, name := range []string{guardMul, guardMod, guardAttr} {
		if e, err := (&syntax.FileOptions{}).ParseExpr("x", name, 0); err == nil {
			t.Errorf("%q is an expression: %T", name, e)
		}
	}
}
