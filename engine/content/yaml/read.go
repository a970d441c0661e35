package yaml

import (
	"slices"
	"strings"

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
)

const (
	// maxDepth is how deep lists and mappings may be nested. PyYAML gives
	// up at about this depth, too.
	maxDepth = 200
	// maxYAMLNodes bounds a document with every alias written out.
	maxYAMLNodes = 2_000_000
)

// Document is a value that was read, and what may surprise in it.
type Document struct {
	Root     *Node
	Warnings []Finding
}

// Parse reads one document as PyYAML's safe loader does, which cloud-init
// uses: YAML 1.1 bools, octal and sexagesimal ints, merge keys, of equal keys
// the last. file names it in errors, which are *position.Error. Beyond what PyYAML
// refuses it refuses a byte-order mark, nesting deeper than 200, aliases that blow up,
// documents that contain themselves, and the tags !!set, !!omap and !!pairs. An
// empty document is null.
func Parse(file, text string) (*Document, error) {
	if err := checkCharacters(file, text); err != nil {
		return nil, err
	}
	p := parser{scanner: newScanner(file, text), handles: map[string]string{"!": "!", "!!": tags}, anchors: map[string]*anchored{}}
	root := p.stream()
	switch {
	case p.err != nil:
		return nil, p.err
	case p.bad != nil:
		return nil, p.bad
	}
	return &Document{Root: root, Warnings: p.warnings}, nil
}

// checkCharacters refuses what the reader of PyYAML refuses, and a byte-order mark:
// cloud-init takes no user-data that begins with one.
func checkCharacters(file, text string) error {
	if err := charset.Check(file, text); err != nil {
		return err
	}
	for i, r := range text {
		switch {
		case r >= ' ' && r < 0x7f || r == '\n' || r == '\t' || r == '\r':
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return positionOf(file, text, i).Errorf("the character U+%04X is not allowed: write it as an escape in double quotes", r)
		}
	}
	return nil
}

func positionOf(file, text string, offset int) position.Position {
	c := position.NewCursor(file, text)
	return c.Position(offset)
}

// shortTag is a tag that was written, shortened to !! where it can be, or "".
func shortTag(tag string) string {
	if tag == "!" {
		return ""
	}
	if name, ok := strings.CutPrefix(tag, tags); ok {
		return "!!" + name
	}
	return tag
}

// scalar sets n to what a scalar means. isKey: it may be a special key.
func (p *parser) scalar(n *Node, tag string, t token, isKey bool) {
	var err error
	var odd string
	switch short := shortTag(tag); {
	case short != "":
		n.Value, err = resolveTagged(short, t.text)
	case !t.quoted || tag == "!":
		n.Value, odd, err = resolvePlain(t.text)
	default:
		n.Value = t.text
	}
	if err != nil {
		p.refuse(n.At, "%v", err)
	}
	if odd != "" {
		n.surprise = &surprised{odd, t.text}
		p.warnings = append(p.warnings, warning(n, odd, "%s", n.Explain()))
	}
	switch _, isSpecial := n.Value.(special); {
	case isSpecial && !isKey:
		p.refuse(n.At, "%q has a meaning only as a key: write it in quotes", t.text)
	case n.Value == any(valueKey):
		n.Value = "="
	}
}

// mapping is a mapping that is being read.
type mapping struct {
	own    *FieldSet
	merged Fields // what merge keys bring in
}

// fields are those of the mapping, of which its own count.
func (m *mapping) fields() Fields {
	if len(m.merged) == 0 {
		return m.own.Fields
	}
	all := NewFieldSet(len(m.merged) + len(m.own.Fields))
	for _, f := range append(m.merged, m.own.Fields...) {
		all.Set(f)
	}
	return all.Fields
}

// enter adds a field, and warns when it was there before.
func (p *parser) enter(m *mapping, key, value *Node) {
	if p.bad != nil {
		return // what there is may be larger than the document
	}
	if key.Value == any(mergeKey) {
		m.merged = append(m.merged, p.merged(value)...)
		return
	}
	if old := m.own.Set(Field{key, value}); old != nil {
		p.warnings = append(p.warnings, warning(key, duplicateKey, "the key %s is there already at %s: only this last one counts", keyText(key), old.Value.At))
	}
}

// merged lists the fields that the value of a merge key, which was read last,
// brings in.
func (p *parser) merged(v *Node) Fields {
	switch m := v.Value.(type) {
	case Fields:
		return m
	case []*Node:
		var all Fields
		for _, item := range slices.Backward(m) { // the first of them wins
			f, ok := item.Value.(Fields)
			if !ok {
				p.refuse(item.At, `"<<" wants a mapping or a list of mappings, got a list with a %s`, item.Kind())
			}
			all = append(all, f...)
		}
		return all
	}
	p.refuse(p.began, `"<<" wants a mapping or a list of mappings, got %s`, v.Kind())
	return nil
}
