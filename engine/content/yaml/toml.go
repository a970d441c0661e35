package yaml

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"b9/engine/position"
)

// ParseTOML reads a TOML 1.0 document. Keys keep the order in which they are
// first mentioned. A local time without a date is text. Errors are *position.Error.
func ParseTOML(file, text string) (*Document, error) {
	if err := boundTOML(file, text); err != nil {
		return nil, err
	}
	var values map[string]any
	if err := toml.Unmarshal([]byte(text), &values); err != nil {
		return nil, tomlError(file, err)
	}
	order := tomlOrder{file: file, text: text, root: &tomlShape{at: position.Position{File: file, Line: 1, Col: 1}}}
	order.read()
	return &Document{Root: order.root.node(values)}, nil
}

func tomlError(file string, err error) error {
	var decode *toml.DecodeError
	if !errors.As(err, &decode) {
		return position.Position{File: file, Line: 1, Col: 1}.Errorf("%s", err.Error())
	}
	line, col := decode.Position()
	msg := decode.Error()
	if len(msg) > 6 && msg[:6] == "toml: " {
		msg = msg[6:]
	}
	return position.Position{File: file, Line: line, Col: col}.Errorf("%s", msg)
}

// tomlShape is what the decoded values don't tell: the place of a value and
// the order of the keys in it.
type tomlShape struct {
	at    position.Position
	keys  []string
	named map[string]*tomlShape
	items []*tomlShape
}

func (s *tomlShape) key(name string, at position.Position) *tomlShape {
	if s.named == nil {
		s.named = map[string]*tomlShape{}
	}
	if s.named[name] == nil {
		s.keys = append(s.keys, name)
		s.named[name] = &tomlShape{at: at}
	}
	return s.named[name]
}

// last is the table that a header below s means: of an array of tables the
// newest one.
func (s *tomlShape) last() *tomlShape {
	if len(s.items) > 0 {
		return s.items[len(s.items)-1]
	}
	return s
}

// tomlOrder builds the shape of a valid document.
type tomlOrder struct {
	file string
	root *tomlShape
	p    unstable.Parser

	text              string
	offset, line, col int // how far place has come; line and col count from 0
}

func (o *tomlOrder) read() {
	o.p.Reset([]byte(o.text))
	table := o.root
	for o.p.NextExpression() {
		switch e := o.p.Expression(); e.Kind {
		case unstable.Table:
			table = o.descend(o.root, e.Key()).last()
		case unstable.ArrayTable:
			list := o.descend(o.root, e.Key())
			list.items = append(list.items, &tomlShape{at: list.at})
			table = list.last()
		case unstable.KeyValue:
			o.keyValue(table, e)
		}
	}
}

// place is the place of a key. Keys come in the order of the text.
func (o *tomlOrder) place(n *unstable.Node) position.Position {
	offset := int(n.Raw.Offset)
	if n.Raw.Length == 0 || offset < o.offset || offset > len(o.text) {
		return position.Position{File: o.file, Line: o.line + 1, Col: o.col + 1}
	}
	gone := o.text[o.offset:offset]
	if lines := strings.Count(gone, "\n"); lines > 0 {
		o.line, o.col = o.line+lines, 0
		gone = gone[strings.LastIndexByte(gone, '\n')+1:]
	}
	o.col += utf8.RuneCountInString(gone)
	o.offset = offset
	return position.Position{File: o.file, Line: o.line + 1, Col: o.col + 1}
}

// descend follows a dotted key.
func (o *tomlOrder) descend(at *tomlShape, key unstable.Iterator) *tomlShape {
	for key.Next() {
		n := key.Node()
		at = at.last().key(string(n.Data), o.place(n))
	}
	return at
}

func (o *tomlOrder) keyValue(table *tomlShape, e *unstable.Node) {
	o.value(o.descend(table, e.Key()), e.Value())
}

func (o *tomlOrder) value(s *tomlShape, v *unstable.Node) {
	children := v.Children()
	for children.Next() {
		c := children.Node()
		switch {
		case v.Kind == unstable.InlineTable:
			o.keyValue(s, c)
		case v.Kind == unstable.Array && c.Kind != unstable.Comment:
			item := &tomlShape{at: s.at}
			s.items = append(s.items, item)
			o.value(item, c)
		}
	}
}

// node joins a shape with its decoded value.
func (s *tomlShape) node(v any) *Node {
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
			item := &tomlShape{at: s.at}
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
	switch v := v.(type) {
	case time.Time:
		t, err := pyTime(v.Format("2006-01-02T15:04:05.999999Z07:00"))
		if err == nil {
			return t
		}
	case toml.LocalDateTime:
		if t, err := pyTime(v.String()); err == nil {
			return t
		}
	case toml.LocalDate:
		if t, err := pyTime(v.String()); err == nil {
			return t
		}
	case string, bool, int64, float64:
		return v
	}
	return fmt.Sprint(v)
}

// boundTOML refuses nesting that would exhaust the stack of a reader.
func boundTOML(file, text string) error {
	depth, dots, line := 0, 0, 1
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.':
			dots++
		case ',', '=':
			dots = 0
		case '\n':
			dots, line = 0, line+1
		case '"', '\'', '#':
			end := i + tomlSkip(text[i:])
			line += strings.Count(text[i:end], "\n")
			i = end - 1
		}
		if depth > maxDepth || dots > maxDepth {
			return position.Position{File: file, Line: line, Col: 1}.Errorf("nested more than %d deep", maxDepth)
		}
	}
	return nil
}

// tomlSkip is the length of the comment or string that s begins with.
func tomlSkip(s string) int {
	end := s[:1]
	switch {
	case s[0] == '#':
		end = "\n"
	case strings.HasPrefix(s, `"""`) || strings.HasPrefix(s, "'''"):
		end = s[:3]
	}
	if end == "\n" {
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i
		}
		return len(s)
	}
	for i := len(end); i < len(s); i++ {
		switch {
		case s[i] == '\\' && end[0] == '"':
			i++
		case strings.HasPrefix(s[i:], end):
			return i + len(end)
		case s[i] == '\n' && len(end) == 1:
			return i
		}
	}
	return len(s)
}
