package yaml

import (
	"bytes"
	"fmt"
	"math/big"
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
	w := tomlWriter{left: MaxNodes}
	if err := w.table(fields, nil); err != nil {
		return "", err
	}
	return w.b.String(), nil
}

type tomlWriter struct {
	b    strings.Builder
	left int
}

// isTable reports whether a field is written under a header of its own: a
// mapping, or a list of nothing but mappings.
func isTable(n *Node) bool {
	switch v := n.Value.(type) {
	case Fields:
		return true
	case []*Node:
		for _, item := range v {
			if _, ok := item.Value.(Fields); !ok {
				return false
			}
		}
		return len(v) > 0
	}
	return false
}

// table writes the fields of the table at path, its own values first.
func (w *tomlWriter) table(fields Fields, path []string) error {
	keys, err := tomlKeys(fields)
	if err != nil {
		return err
	}
	for i, f := range fields {
		if isTable(f.Value) {
			continue
		}
		w.b.WriteString(keys[i] + " = ")
		if err := w.value(f.Value); err != nil {
			return err
		}
		w.b.WriteByte('\n')
	}
	for i, f := range fields {
		if isTable(f.Value) {
			if err := w.tables(f.Value, append(path[:len(path):len(path)], keys[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *tomlWriter) tables(n *Node, path []string) error {
	if w.left--; w.left < 0 {
		return n.At.Errorf("the document has more than %d values", MaxNodes)
	}
	name := strings.Join(path, ".")
	if fields, ok := n.Value.(Fields); ok {
		w.header("[" + name + "]\n")
		return w.table(fields, path)
	}
	for _, item := range n.Value.([]*Node) {
		w.header("[[" + name + "]]\n")
		if err := w.table(item.Value.(Fields), path); err != nil {
			return err
		}
	}
	return nil
}

func (w *tomlWriter) header(text string) {
	if w.b.Len() > 0 {
		w.b.WriteByte('\n')
	}
	w.b.WriteString(text)
}

// value writes a value on the line of its key.
func (w *tomlWriter) value(n *Node) error {
	if w.left--; w.left < 0 {
		return n.At.Errorf("the document has more than %d values", MaxNodes)
	}
	switch v := n.Value.(type) {
	case bool, int64:
		fmt.Fprint(&w.b, v)
	case float64, string:
		return w.library(v)
	case Time:
		w.b.WriteString(string(v))
	case []*Node:
		return w.list(v)
	case Fields:
		return w.inline(v)
	case *big.Int:
		return n.At.Errorf("%s does not fit into the 64 bits of TOML", n.Show())
	default:
		return n.At.Errorf("%s can't be written as TOML", n.Kind())
	}
	return nil
}

func (w *tomlWriter) list(items []*Node) error {
	w.b.WriteByte('[')
	for i, item := range items {
		if i > 0 {
			w.b.WriteString(", ")
		}
		if err := w.value(item); err != nil {
			return err
		}
	}
	w.b.WriteByte(']')
	return nil
}

func (w *tomlWriter) inline(fields Fields) error {
	keys, err := tomlKeys(fields)
	if err != nil {
		return err
	}
	w.b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.b.WriteString(keys[i] + " = ")
		if err := w.value(f.Value); err != nil {
			return err
		}
	}
	w.b.WriteByte('}')
	return nil
}

// library writes a value as the library does; text of several lines stays
// readable.
func (w *tomlWriter) library(value any) error {
	line, err := toml.Marshal(struct {
		V any `toml:"v,multiline"`
	}{value})
	if err != nil {
		return fmt.Errorf("write TOML: %w", err)
	}
	w.b.Write(bytes.TrimSuffix(bytes.TrimPrefix(line, []byte("v = ")), []byte("\n")))
	return nil
}

// tomlKeys are the keys of a mapping as the library writes them, which puts
// quotes around those that need them. No two may be equal as text.
func tomlKeys(fields Fields) ([]string, error) {
	keys, seen := make([]string, len(fields)), map[string]bool{}
	for i, f := range fields {
		key := keyText(f.Key)
		if seen[key] {
			return nil, f.Key.At.Errorf("two keys would both be written as %q", key)
		}
		seen[key] = true
		line, err := toml.Marshal(map[string]bool{key: true})
		if err != nil {
			return nil, fmt.Errorf("write TOML: %w", err)
		}
		keys[i] = strings.TrimSuffix(string(line), " = true\n")
	}
	return keys, nil
}
