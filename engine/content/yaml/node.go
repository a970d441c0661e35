package yaml

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"b9.build/b9/engine/internal/position"
)

// Node is a value of a document and the position where it was written. Nodes are
// never changed once made, and one node may occur several times in a tree.
//
// Value is one of nil, bool, int64, *big.Int (beyond 64 bits), float64,
// string, Bytes, Time, []*Node (a list) and Fields (a mapping).
type Node struct {
	Value    any
	At       position.Position
	surprise *surprised // nil for what means what it looks like
}

// Bytes is what the tag !!binary makes: data that is no text.
type Bytes string

// Time is a date, or a date and a time of day, as YAML 1.1 and TOML both
// write it: 2001-12-14 or 2001-12-14T21:59:43.1-05:00. Readers of YAML read
// it as a date, not as text.
type Time string

// Fields is the entries of a mapping in their order. Keys are scalars, and no
// two are equal in the sense of Python.
type Fields []Field

// Field is one entry of a mapping.
type Field struct {
	Key, Value *Node
}

// Get returns the value of a text key, nil if there is none.
func (f Fields) Get(key string) *Node {
	for _, e := range f {
		if s, ok := e.Key.Value.(string); ok && s == key {
			return e.Value
		}
	}
	return nil
}

// keyText is how messages, JSON and TOML write a key, and YAML a scalar.
func keyText(key *Node) string {
	switch v := key.Value.(type) {
	case string:
		return v
	case nil:
		return "null"
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return formatFloat(v)
	}
	return fmt.Sprint(key.Value)
}

// keyID is equal for keys that are the same one in Python's dict: 1, 1.0
// and true are.
func keyID(key *Node) string {
	switch v := key.Value.(type) {
	case nil:
		return "null"
	case bool:
		if v {
			return "n1"
		}
		return "n0"
	case int64:
		return "n" + strconv.FormatInt(v, 10)
	case *big.Int:
		return "n" + v.String()
	case float64:
		if n := int64(v); float64(n) == v {
			return "n" + strconv.FormatInt(n, 10)
		}
		return "n" + strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return "s" + v
	}
	return fmt.Sprintf("%T%v", key.Value, key.Value)
}

// FieldSet builds a mapping: a key that is set again keeps its position.
type FieldSet struct {
	Fields Fields
	at     map[string]int // position + 1 by keyID
}

// NewFieldSet returns an empty mapping with room for n fields.
func NewFieldSet(n int) *FieldSet {
	return &FieldSet{Fields: make(Fields, 0, n), at: make(map[string]int, n)}
}

// Find returns the value of a key, nil where there is none.
func (s *FieldSet) Find(key *Node) *Node {
	if i := s.at[keyID(key)]; i > 0 {
		return s.Fields[i-1].Value
	}
	return nil
}

// Set enters a field, and returns the one that it replaced.
func (s *FieldSet) Set(f Field) (old *Field) {
	id := keyID(f.Key)
	if i := s.at[id]; i > 0 {
		before := s.Fields[i-1]
		s.Fields[i-1].Value = f.Value
		return &before
	}
	s.Fields = append(s.Fields, f)
	s.at[id] = len(s.Fields)
	return nil
}

// Kind names the kind of a value for messages.
func (n *Node) Kind() string {
	switch n.Value.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case int64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "text"
	case Bytes:
		return "binary data"
	case Time:
		return "date"
	case []*Node:
		return "list"
	}
	return "mapping"
}

// Show renders a value for a message, shortened.
func (n *Node) Show() string {
	const limit = 40
	var text string
	switch v := n.Value.(type) {
	case nil:
		return "null"
	case string:
		text = strconv.Quote(v)
	case []*Node:
		return fmt.Sprintf("a list of %d", len(v))
	case Fields:
		return fmt.Sprintf("a mapping of %d", len(v))
	case Bytes:
		return fmt.Sprintf("%d bytes", len(v))
	case float64:
		text = formatFloat(v)
	default:
		text = fmt.Sprint(v)
	}
	if r := []rune(text); len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return text
}

// Equal reports whether two values are the same, types and all. The
// order of keys does not matter.
func Equal(a, b *Node) bool {
	switch x := a.Value.(type) {
	case *big.Int:
		y, ok := b.Value.(*big.Int)
		return ok && x.Cmp(y) == 0
	case []*Node:
		y, ok := b.Value.([]*Node)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !Equal(x[i], y[i]) {
				return false
			}
		}
		return true
	case Fields:
		y, ok := b.Value.(Fields)
		return ok && equalFields(x, y)
	}
	switch b.Value.(type) {
	case []*Node, Fields:
		return false
	}
	return a.Value == b.Value
}

func equalFields(a, b Fields) bool {
	if len(a) != len(b) {
		return false
	}
	s := NewFieldSet(len(b))
	for _, f := range b {
		s.Set(f)
	}
	for _, f := range a {
		if other := s.Find(f.Key); other == nil || !Equal(f.Value, other) {
			return false
		}
	}
	return true
}

// JoinPath names an entry below a path: users[0].name.
func JoinPath(path string, key *Node) string {
	text := keyText(key)
	if text == "" || strings.ContainsAny(text, ".[]\" \n") {
		text = strconv.Quote(text)
	}
	if path == "" {
		return text
	}
	return path + "." + text
}

// IndexPath names an element below a path: users[0].
func IndexPath(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}
