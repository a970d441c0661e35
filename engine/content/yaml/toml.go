package yaml

import (
	"fmt"
	"time"

	gotoml "github.com/pelletier/go-toml/v2"

	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/internal/toml"
)

// ParseTOML reads a TOML 1.0 document. Keys keep the order in which they are
// first mentioned. A local time without a date is text. Errors are
// *position.Error.
func ParseTOML(file, text string) (*Document, error) {
	d, err := toml.Parse(file, text)
	if err != nil {
		return nil, err
	}
	root := &shape{at: position.Position{File: file, Line: 1, Col: 1}}
	root.addAll(d.Entries)
	return &Document{Root: root.node(d.Values)}, nil
}

// shape is what the decoded values don't have: the position of a value and
// the order of the keys in it.
type shape struct {
	at    position.Position
	keys  []string
	named map[string]*shape
	items []*shape
}

func (s *shape) key(name string, at position.Position) *shape {
	if s.named == nil {
		s.named = map[string]*shape{}
	}
	if s.named[name] == nil {
		s.keys = append(s.keys, name)
		s.named[name] = &shape{at: at}
	}
	return s.named[name]
}

// last is the table that a header below s means: of an array of tables the
// newest one.
func (s *shape) last() *shape {
	if len(s.items) > 0 {
		return s.items[len(s.items)-1]
	}
	return s
}

// addAll enters the keys of a document into the shape of its root.
func (s *shape) addAll(entries []toml.Entry) {
	table := s
	for _, e := range entries {
		switch e.Kind {
		case toml.Table:
			table = s.descend(e.Keys).last()
		case toml.ArrayTable:
			list := s.descend(e.Keys)
			list.items = append(list.items, &shape{at: list.at})
			table = list.last()
		case toml.KeyValue:
			table.descend(e.Keys).addValue(e.Value)
		}
	}
}

// descend follows a dotted key.
func (s *shape) descend(keys []toml.Key) *shape {
	for _, k := range keys {
		s = s.last().key(k.Name, k.At)
	}
	return s
}

func (s *shape) addValue(v toml.Value) {
	for _, f := range v.Fields {
		s.descend(f.Keys).addValue(f.Value)
	}
	for _, item := range v.Items {
		child := &shape{at: s.at}
		s.items = append(s.items, child)
		child.addValue(item)
	}
}

// node joins a shape with its decoded value.
func (s *shape) node(v any) *Node {
	out := &Node{At: s.at}
	switch v := v.(type) {
	case map[string]any:
		fields := make(Fields, 0, len(v))
		for _, name := range s.keys {
			child := s.named[name]
			fields = append(fields, Field{&Node{Value: name, At: child.at}, child.node(v[name])})
		}
		out.Value = fields
	case []any:
		list := make([]*Node, len(v))
		for i := range v {
			item := &shape{at: s.at}
			if i < len(s.items) {
				item = s.items[i]
			}
			list[i] = item.node(v[i])
		}
		out.Value = list
	default:
		out.Value = tomlScalar(v)
	}
	return out
}

func tomlScalar(v any) any {
	text := ""
	switch v := v.(type) {
	case string, bool, int64, float64:
		return v
	case time.Time:
		text = v.Format("2006-01-02T15:04:05.999999Z07:00")
	case gotoml.LocalDateTime, gotoml.LocalDate:
		text = fmt.Sprint(v)
	}
	if t, err := pyTime(text); err == nil {
		return t
	}
	return fmt.Sprint(v)
}
