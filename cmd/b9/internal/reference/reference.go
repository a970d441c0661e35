// Package reference is what there is to call in build files: b9's built-ins, what the
// language itself has, and the functions of rule libraries.
//
//	Part   built-ins, the language, or one library
//	Entry  what can be called, or has a name
//
// [Text], [Markdown] and [HTML] write parts. Nothing is evaluated: of a library its text
// is read.
package reference

import (
	"io/fs"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/stdlib"
)

// Part is one part of the reference.
type Part struct {
	Name    string // such as "@b9//boot.star"
	Doc     string
	Entries []Entry
}

// Entry is one name.
type Entry struct {
	Name    string
	Call    string // such as "join(*parts)"; "" for a built-in, whose Params tell it
	Doc     string // a line, then the rest
	Params  []lang.Param
	Args    []Argument // of a library's function
	Example string
}

// Summary is the first line of the entry's text.
func (e *Entry) Summary() string { return firstLine(e.Doc) }

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// Builtins are the operations.
func Builtins(operations []lang.Operation) Part {
	p := Part{Name: "built-ins", Doc: "What build files can call without loading it."}
	for _, op := range operations {
		p.Entries = append(p.Entries, Entry{Name: op.Name, Doc: op.Doc, Params: op.AllParams(), Example: op.Example})
	}
	return p
}

// Language is what Starlark itself has, as far as it is a call or a module.
func Language() Part {
	p := Part{Name: "starlark", Doc: "What the language has: Starlark, with sets, recursion left out, and struct and json beside it. Strings, lists, dicts and sets have the methods that its specification names."}
	for _, row := range language() {
		name, _, _ := strings.Cut(row[0], "(")
		p.Entries = append(p.Entries, Entry{Name: name, Call: row[0], Doc: row[1]})
	}
	return p
}

// Libraries are the rule libraries that come with b9, by name.
func Libraries() ([]Part, error) {
	names, err := fs.Glob(stdlib.FS, "*.star")
	if err != nil {
		return nil, err
	}
	var parts []Part
	for _, name := range names {
		data, err := stdlib.FS.ReadFile(name)
		if err != nil {
			return nil, err
		}
		p, err := Library("@b9//"+name, data)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// Library is one library by its text: what its top level defines for others. A mistake in
// its syntax is an error.
func Library(name string, data []byte) (Part, error) {
	doc, symbols, err := style.Document(name, data)
	if err != nil {
		return Part{}, err
	}
	p := Part{Name: name, Doc: dedent(doc)}
	for _, s := range symbols {
		if s.Call != "" {
			text, args := docstring(s.Doc)
			p.Entries = append(p.Entries, Entry{Name: s.Name, Call: s.Call, Doc: text, Args: args})
		}
	}
	return p, nil
}
