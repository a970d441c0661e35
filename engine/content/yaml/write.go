package yaml

import (
	"bytes"
	"encoding/base64"
	"math/big"

	"go.yaml.in/yaml/v4"
)

// MaxNodes bounds the values of a tree that is written or merged: aliases
// and doubled lists could make it grow without end.
const MaxNodes = 4_000_000

// writer is what writers of all formats have in common. After a mistake they
// write nothing more that counts.
type writer struct {
	b    bytes.Buffer
	left int   // values that may still be written
	err  error // the first mistake
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// visit counts a value, and reports whether it may be written.
func (w *writer) visit(n *Node) bool {
	if w.left--; w.left < 0 {
		w.fail(n.At.Errorf("the document has more than %d values", MaxNodes))
	}
	return w.err == nil
}

// keys are the keys of a mapping as text, of which no two may be equal.
func (w *writer) keys(fields Fields) []string {
	keys, seen := make([]string, len(fields)), make(map[string]bool, len(fields))
	for i, f := range fields {
		keys[i] = keyText(f.Key)
		if seen[keys[i]] {
			w.fail(f.Key.At.Errorf("two keys would both be written as %q", keys[i]))
		}
		seen[keys[i]] = true
	}
	return keys
}

// items writes items with a separator between them, in brackets.
func (w *writer) items(open, separator, end string, count int, write func(i int)) {
	w.b.WriteString(open)
	for i := range count {
		if i > 0 {
			w.b.WriteString(separator)
		}
		write(i)
	}
	w.b.WriteString(end)
}

// YAML renders the tree as a document that PyYAML reads back equal: in the
// order of its keys, without comments and aliases, text of several lines as
// blocks. The error is a *position.Error or one of writing.
func (n *Node) YAML() (string, error) {
	w := treeWriter{writer{left: MaxNodes}}
	out := w.node(n)
	if w.err != nil {
		return "", w.err
	}
	return dump(out)
}

// treeWriter turns our nodes into the library's.
type treeWriter struct{ writer }

func (w *treeWriter) node(n *Node) *yaml.Node {
	if !w.visit(n) {
		return nil
	}
	switch v := n.Value.(type) {
	case nil:
		return scalar("!!null", n)
	case bool:
		return scalar("!!bool", n)
	case int64, *big.Int:
		return scalar("!!int", n)
	case float64:
		return scalar("!!float", n)
	case Time:
		return scalar("!!timestamp", n)
	case string:
		return textNode(n)
	case Bytes:
		out := scalar("!!binary", &Node{Value: base64.StdEncoding.EncodeToString([]byte(v))})
		out.Style = yaml.TaggedStyle
		return out
	case []*Node:
		return collection(yaml.SequenceNode, "!!seq", w.list(v))
	}
	return collection(yaml.MappingNode, "!!map", w.mapping(n.Value.(Fields)))
}

func (w *treeWriter) list(items []*Node) []*yaml.Node {
	content := make([]*yaml.Node, len(items))
	for i, item := range items {
		content[i] = w.node(item)
	}
	return content
}

func (w *treeWriter) mapping(fields Fields) []*yaml.Node {
	content := make([]*yaml.Node, 0, 2*len(fields))
	for _, f := range fields {
		content = append(content, w.node(f.Key), w.node(f.Value))
	}
	return content
}

func collection(kind yaml.Kind, tag string, content []*yaml.Node) *yaml.Node {
	out := &yaml.Node{Kind: kind, Tag: tag, Content: content}
	if len(content) == 0 {
		out.Style = yaml.FlowStyle
	}
	return out
}
