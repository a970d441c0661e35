package yaml

import (
	"fmt"
	"math"
	"math/big"
	"strings"
)

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
	seen := map[string]bool{}
	for _, f := range fields {
		key := keyText(f.Key)
		if seen[key] {
			return f.Key.At.Errorf("two keys would both be written as %q", key)
		}
		seen[key] = true
		if isTable(f.Value) {
			continue
		}
		w.b.WriteString(tomlKey(key) + " = ")
		if err := w.value(f.Value); err != nil {
			return err
		}
		w.b.WriteByte('\n')
	}
	for _, f := range fields {
		if isTable(f.Value) {
			if err := w.tables(f.Value, append(path[:len(path):len(path)], tomlKey(keyText(f.Key)))); err != nil {
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
	case float64:
		w.b.WriteString(tomlFloat(v))
	case string:
		w.b.WriteString(tomlText(v))
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
	w.b.WriteByte('{')
	seen := map[string]bool{}
	for i, f := range fields {
		key := keyText(f.Key)
		if seen[key] {
			return f.Key.At.Errorf("two keys would both be written as %q", key)
		}
		seen[key] = true
		if i > 0 {
			w.b.WriteString(", ")
		}
		w.b.WriteString(tomlKey(key) + " = ")
		if err := w.value(f.Value); err != nil {
			return err
		}
	}
	w.b.WriteByte('}')
	return nil
}

func tomlFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return formatFloat(f)
}

// tomlKey quotes a key that is not bare.
func tomlKey(s string) string {
	if s != "" && strings.Trim(s, letters+"0123456789_-") == "" {
		return s
	}
	return tomlBasic(s, false)
}

// tomlText writes text of several lines so that it stays readable.
func tomlText(s string) string {
	if strings.Contains(s, "\n") {
		return tomlBasic(s, true)
	}
	return tomlBasic(s, false)
}

func tomlBasic(s string, lines bool) string {
	var b strings.Builder
	quote := `"`
	if lines {
		quote = `"""`
		b.WriteString(quote + "\n")
	} else {
		b.WriteString(quote)
	}
	for _, r := range s {
		switch {
		case r == '\n' && lines:
			b.WriteByte('\n')
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String() + quote
}
