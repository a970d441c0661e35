package yaml

import (
	"encoding/base64"

	"go.yaml.in/yaml/v4"
)

// MaxNodes bounds the values of a tree that is written or merged: aliases
// and doubled lists could make it grow without end.
const MaxNodes = 4_000_000

// YAML renders the tree as a document that PyYAML reads back equal: in the
// order of its keys, without comments and aliases, text of several lines as
// blocks. The error is a *position.Error or one of writing.
func (n *Node) YAML() (string, error) {
	w := treeWriter{left: MaxNodes}
	out, err := w.node(n)
	if err != nil {
		return "", err
	}
	return dump(out)
}

// treeWriter turns our nodes into the library's.
type treeWriter struct{ left int }

func (w *treeWriter) node(n *Node) (*yaml.Node, error) {
	if w.left--; w.left < 0 {
		return nil, n.At.Errorf("the document has more than %d values", MaxNodes)
	}
	switch v := n.Value.(type) {
	case []*Node:
		return w.list(v)
	case Fields:
		return w.mapping(v)
	case Time:
		return scalar("!!timestamp", string(v)), nil
	case Bytes:
		out := scalar("!!binary", base64.StdEncoding.EncodeToString([]byte(v)))
		out.Style = yaml.TaggedStyle
		return out, nil
	}
	return plain(n.Value)
}

func (w *treeWriter) list(items []*Node) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: make([]*yaml.Node, len(items))}
	if len(items) == 0 {
		out.Style = yaml.FlowStyle
	}
	for i, item := range items {
		var err error
		if out.Content[i], err = w.node(item); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *treeWriter) mapping(fields Fields) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Content: make([]*yaml.Node, 0, 2*len(fields))}
	if len(fields) == 0 {
		out.Style = yaml.FlowStyle
	}
	for _, f := range fields {
		key, err := w.node(f.Key)
		if err != nil {
			return nil, err
		}
		value, err := w.node(f.Value)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, key, value)
	}
	return out, nil
}
