package yaml

import (
	"bytes"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// The library writes keys, text and numbers. It sorts the keys of a map, and
// has no ordered one, so what stands where is decided here.

// TOML renders the tree, which must be a mapping, as TOML 1.0 in the order of
// its keys, but for tables, which TOML wants behind the other values. null,
// binary data and ints beyond 64 bits are errors, which are *position.Error.
func (n *Node) TOML() (string, error) {
	fields, ok := n.Value.(Fields)
	if !ok {
		return "", n.At.Errorf("a TOML document is a mapping, got %s", n.Kind())
	}
	w := tomlWriter{writer{left: MaxNodes}}
	if w.table(fields, nil); w.err != nil {
		return "", w.err
	}
	return w.b.String(), nil
}

type tomlWriter struct{ writer }

// isTable reports whether a field is written under a header of its own: a
// mapping, or a list of nothing but mappings.
func isTable(n *Node) bool {
	switch v := n.Value.(type) {
	case Fields:
		return true
	case []*Node:
		isOther := func(item *Node) bool { _, ok := item.Value.(Fields); return !ok }
		return len(v) > 0 && !slices.ContainsFunc(v, isOther)
	}
	return false
}

// table writes the fields of the table at path, its own values first.
func (w *tomlWriter) table(fields Fields, path []string) {
	keys := w.keys(fields)
	for i, f := range fields {
		if !isTable(f.Value) {
			w.field(keys[i], f.Value)
			w.b.WriteByte('\n')
		}
	}
	for i, f := range fields {
		if isTable(f.Value) {
			w.tables(f.Value, append(path[:len(path):len(path)], keys[i]))
		}
	}
}

func (w *tomlWriter) tables(n *Node, path []string) {
	if !w.visit(n) {
		return
	}
	name := strings.Join(path, ".")
	if fields, ok := n.Value.(Fields); ok {
		w.header("[" + name + "]\n")
		w.table(fields, path)
		return
	}
	for _, item := range n.Value.([]*Node) {
		w.header("[[" + name + "]]\n")
		w.table(item.Value.(Fields), path)
	}
}

func (w *tomlWriter) header(text string) {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	w.b.WriteString(text)
}

func (w *tomlWriter) field(key string, value *Node) {
	w.b.WriteString(key + " = ")
	w.value(value)
}

// value writes a value on the line of its key.
func (w *tomlWriter) value(n *Node) {
	if !w.visit(n) {
		return
	}
	switch v := n.Value.(type) {
	case bool, int64, Time:
		fmt.Fprint(&w.b, v)
	case float64, string:
		w.library(v)
	case []*Node:
		w.items("[", ", ", "]", len(v), func(i int) { w.value(v[i]) })
	case Fields:
		keys := w.keys(v)
		w.items("{", ", ", "}", len(v), func(i int) { w.field(keys[i], v[i].Value) })
	case *big.Int:
		w.fail(n.At.Errorf("%s does not fit into the 64 bits of TOML", n.Show()))
	default:
		w.fail(n.At.Errorf("%s can't be written as TOML", n.Kind()))
	}
}

// library writes a value as the library does; text of several lines stays
// readable.
func (w *tomlWriter) library(value any) {
	line, err := toml.Marshal(struct {
		V any `toml:"v,multiline"`
	}{value})
	if err != nil {
		w.fail(fmt.Errorf("write TOML: %w", err))
	}
	w.b.Write(bytes.TrimSuffix(bytes.TrimPrefix(line, []byte("v = ")), []byte("\n")))
}

// keys are the keys of a mapping as the library writes them, which puts quotes
// around those that need them.
func (w *tomlWriter) keys(fields Fields) []string {
	keys := w.writer.keys(fields)
	for i, key := range keys {
		line, err := toml.Marshal(map[string]bool{key: true})
		if err != nil {
			w.fail(fmt.Errorf("write TOML: %w", err))
		}
		keys[i] = strings.TrimSuffix(string(line), " = true\n")
	}
	return keys
}
