package lang

import (
	"fmt"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/engine/size"
)

// Type is the set of values that a parameter takes: any of several basic
// types, lists of them, and dicts from strings to them. None is always taken,
// and means that the parameter is absent.
type Type uint64

// The basic types, which combine with |.
const (
	String Type = 1 << iota
	Bool
	Int
	Float
	Size         // a number of bytes, or a string that size.Parse reads
	File         // a handle, a label or the path of a source file: one file, such as an image
	Tree         // a handle, a label or the path of a source directory
	Group        // beside File and Tree: also a group, or a step with several outputs, as a whole
	WritableTree // what writable() returns, a *WritableValue
	SecretText   // what secret() returns, a *SecretValue
	Value        // anything
)

const typeBits = 16

// ListOf is a list or tuple of values of the types.
func ListOf(t Type) Type { return t << typeBits }

// DictOf is a dict from strings to values of the types.
func DictOf(t Type) Type { return t << (2 * typeBits) }

func (t Type) basic() Type { return t & (1<<typeBits - 1) }

func (t Type) element() Type { return t >> typeBits & (1<<typeBits - 1) }

func (t Type) entry() Type { return t >> (2 * typeBits) }

// String describes the type for people: "string, or list of files".
func (t Type) String() string {
	alternatives := t.basic().names(func(n typeName) string { return n.one })
	if e := t.element(); e != 0 {
		alternatives = append(alternatives, "list of "+e.plural())
	}
	if e := t.entry(); e != 0 {
		alternatives = append(alternatives, "dict of "+e.plural())
	}
	return strings.Join(alternatives, " or ")
}

func (t Type) plural() string {
	return strings.Join(t.names(func(n typeName) string { return n.many }), " or ")
}

// names lists the basic types that t has. File and Tree together are one.
func (t Type) names(form func(typeName) string) []string {
	var names []string
	for _, n := range typeNames() {
		if t&n.t == n.t && (n.t != File && n.t != Tree || t&(File|Tree) == n.t) {
			names = append(names, form(n))
		}
	}
	return names
}

type typeName struct {
	t         Type
	one, many string
}

func typeNames() []typeName {
	return []typeName{
		{String, "string", "strings"},
		{Bool, "bool", "bools"},
		{Int, "int", "ints"},
		{Float, "float", "floats"},
		{Size, `size (such as "4G", or bytes)`, "sizes"},
		{File | Tree, "file or directory (handle, label or path)", "files or directories"},
		{File, "file (handle, label or path)", "files"},
		{Tree, "directory (handle, label or path)", "directories"},
		{WritableTree, "writable()", "writable()"},
		{SecretText, "secret()", "secret()"},
		{Value, "any value", "values"},
	}
}

// check tells why v is not of the type; v is not None.
func (t Type) check(v starlark.Value) error {
	if t.matches(v) {
		return nil
	}
	switch v := v.(type) {
	case starlark.String:
		if t&Size != 0 {
			_, err := size.Parse(string(v))
			return err
		}
	case starlark.Indexable: // lists and tuples
		if t.element() != 0 {
			return t.checkElements(v)
		}
	case *starlark.Dict:
		if t.entry() != 0 {
			return t.checkEntries(v)
		}
	}
	return fmt.Errorf("want %s, got %s", t, v.Type())
}

func (t Type) checkElements(list starlark.Indexable) error {
	for i := range list.Len() {
		if err := t.element().check(list.Index(i)); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return nil
}

func (t Type) checkEntries(dict *starlark.Dict) error {
	for key, v := range dict.Entries() {
		if _, ok := key.(starlark.String); !ok {
			return fmt.Errorf("want strings as keys, got %s", key.Type())
		}
		if err := t.entry().check(v); err != nil {
			return fmt.Errorf("entry %s: %w", key, err)
		}
	}
	return nil
}

// matches reports whether v is one of the basic types. A size given as a
// string is left to check, which can say what is wrong with it.
func (t Type) matches(v starlark.Value) bool {
	want := Value
	switch v.(type) {
	case starlark.String:
		want |= String | File | Tree
	case starlark.Bool:
		want |= Bool
	case starlark.Int:
		want |= Int | Size
	case starlark.Float:
		want |= Float
	case *Handle:
		want |= File | Tree
	case *WritableValue:
		want |= WritableTree
	case *SecretValue:
		want |= SecretText
	}
	return t&want != 0
}
