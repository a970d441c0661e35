// Package toml reads TOML documents (TOML 1.0) and says where each key stands.
// The library decodes the values and refuses what is wrong; a walk over its
// syntax tree adds the order and the positions of the keys, which the values
// don't have. It knows no schema.
//
//	Parse     a Document: the Values, and the Entries in the order of the text
//	Entry     a [table], an [[array of tables]] or a key with its value
//	Span      what an entry or a value covers of the text, for whoever edits it
//	Lookup    a value by its keys
package toml

import (
	"cmp"
	"errors"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
)

// MaxDepth bounds how deep arrays, tables and dotted keys may be nested.
const MaxDepth = 200

// Document is a valid document.
type Document struct {
	Values  map[string]any // as the library decodes them: toml.LocalDate and so on for dates
	Entries []Entry
}

// Kind says what an Entry is.
type Kind uint8

// The kinds of entries.
const (
	Table      Kind = iota + 1 // [a.b]: the keys that follow belong to it
	ArrayTable                 // [[a.b]]: the same for a new element of an array
	KeyValue                   // a.b = value
)

// Entry is one expression of a document.
type Entry struct {
	Kind  Kind
	Keys  []Key // the parts of a dotted key, without those of the table above it
	Span  Span  // of a KeyValue: the key and the value; of a table: its keys
	Value Value // of a KeyValue
}

// Key is one part of a dotted key.
type Key struct {
	Name string
	At   position.Position
}

// Value says what stands in an inline table or an array.
type Value struct {
	Span   Span
	Inline bool    // it is an inline table
	Fields []Entry // of an inline table
	Items  []Value // of an array
}

// Span is a part of the text, from one byte offset to before another.
type Span struct{ From, To int }

// Parse reads a document. The file's name begins its positions. The error is a
// *position.Error.
//
// The walk comes first and refuses what is nested too deep for the functions that
// call themselves, in the library (which decodes a dotted key that way) and in
// whoever reads the values. The library's parser has a bound of its own.
func Parse(file, text string) (*Document, error) {
	if err := charset.Check(file, text); err != nil {
		return nil, err
	}
	d := &Document{}
	w := walk{text: text, at: position.NewCursor(file, text)}
	w.parser.Reset([]byte(text))
	for w.parser.NextExpression() {
		n := w.parser.Expression()
		kind := kindOf(n)
		if kind == 0 {
			continue
		}
		e := w.entry(kind, n, 0)
		if w.deepest > MaxDepth {
			return nil, e.Keys[0].At.Errorf("nested more than %d deep", MaxDepth)
		}
		d.Entries = append(d.Entries, e)
	}
	err := toml.Unmarshal([]byte(text), &d.Values) // says where a mistake is, which the parser does not
	if err := cmp.Or(err, w.parser.Error()); err != nil {
		return nil, mistake(file, err)
	}
	return d, nil
}

// mistake is an error of the library, with its position.
func mistake(file string, err error) *position.Error {
	at := position.Position{File: file, Line: 1, Col: 1}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		at.Line, at.Col = decode.Position()
	}
	return at.Errorf("%s", strings.TrimPrefix(err.Error(), "toml: "))
}

// kindOf is 0 for a comment.
func kindOf(n *unstable.Node) Kind {
	switch n.Kind {
	case unstable.Table:
		return Table
	case unstable.ArrayTable:
		return ArrayTable
	case unstable.KeyValue:
		return KeyValue
	}
	return 0
}

// walk turns the library's syntax tree, which lasts until the next expression
// is read, into entries.
type walk struct {
	parser  unstable.Parser
	text    string
	at      position.Cursor
	deepest int // most arrays and inline tables in each other so far, or dots in a key
}

// entry turns an expression into an entry; depth arrays and inline tables are
// around it.
func (w *walk) entry(kind Kind, n *unstable.Node, depth int) Entry {
	e := Entry{Kind: kind}
	for it := n.Key(); it.Next(); {
		k := it.Node()
		e.Keys = append(e.Keys, Key{Name: string(k.Data), At: w.at.Position(int(k.Raw.Offset))})
		if len(e.Keys) == 1 {
			e.Span.From = int(k.Raw.Offset)
		}
		e.Span.To = span(k).To
	}
	w.deepest = max(w.deepest, len(e.Keys)-1)
	if kind == KeyValue {
		key := e.Span.To
		e.Span = span(n)
		e.Value = w.value(n.Value(), depth)
		if kind := n.Value().Kind; kind == unstable.Array || kind == unstable.InlineTable { // the parser does not say where they end
			rest := w.text[key:e.Span.To]
			e.Value.Span = Span{e.Span.To - len(strings.TrimLeft(rest, " \t=")), e.Span.To}
		}
	}
	return e
}

func (w *walk) value(n *unstable.Node, depth int) Value {
	v := Value{Span: span(n), Inline: n.Kind == unstable.InlineTable}
	if v.Inline || n.Kind == unstable.Array {
		depth++
		w.deepest = max(w.deepest, depth)
	}
	for it := n.Children(); it.Next(); {
		switch c := it.Node(); {
		case v.Inline && c.Kind == unstable.KeyValue:
			v.Fields = append(v.Fields, w.entry(KeyValue, c, depth))
		case n.Kind == unstable.Array && c.Kind != unstable.Comment:
			v.Items = append(v.Items, w.value(c, depth))
		}
	}
	return v
}

func span(n *unstable.Node) Span {
	return Span{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)}
}

// Lookup returns the value that the keys lead to, nil where there is none.
func Lookup(values map[string]any, keys ...string) any {
	var v any = values
	for _, name := range keys {
		table, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = table[name]
	}
	return v
}
