package yaml

import (
	"fmt"
	"strings"
	"unicode/utf8"

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
// refuses it refuses nesting deeper than 200, aliases that blow up,
// documents that contain themselves, and the tags !!set, !!omap and !!pairs. An
// empty document is null.
func Parse(file, text string) (*Document, error) {
	if err := checkCharacters(file, text); err != nil {
		return nil, err
	}
	root, err := parseSyntax(file, text)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return &Document{Root: &Node{At: position.Position{File: file, Line: 1, Col: 1}}}, nil
	}
	var r reader
	n, err := r.node(root, 0)
	if err != nil {
		return nil, err
	}
	return &Document{Root: n.node, Warnings: r.warnings}, nil
}

// checkCharacters refuses what the reader of PyYAML refuses.
func checkCharacters(file, text string) error {
	line, col := 1, 1
	for i, r := range text {
		switch {
		case r == '\n':
			line, col = line+1, 0
		case r >= ' ' && r < 0x7f || r == '\t' || r == '\r':
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			return position.Position{File: file, Line: line, Col: col}.Errorf("the text is not UTF-8")
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return position.Position{File: file, Line: line, Col: col}.Errorf("the character U+%04X is not allowed: write it as an escape in double quotes", r)
		}
		col++
	}
	return nil
}

// reader makes values of what was written.
type reader struct {
	total    int               // values made, with aliases written out
	shared   map[*syntax]sized // values with an anchor
	open     map[*syntax]bool  // anchors that are being made
	warnings []Finding
}

// sized is a node and how many values it stands for.
type sized struct {
	node *Node
	size int
}

// node makes the value of n.
func (r *reader) node(n *syntax, depth int) (sized, error) {
	if depth > maxDepth {
		return sized{}, n.at.Errorf("nested more than %d deep", maxDepth)
	}
	if n.kind == aliasSyntax {
		return r.alias(n, depth)
	}
	if n.anchor == "" {
		return r.plainNode(n, depth)
	}
	if v, ok := r.shared[n]; ok {
		return v, nil
	}
	if r.open == nil {
		r.open, r.shared = map[*syntax]bool{}, map[*syntax]sized{}
	}
	r.open[n] = true
	v, err := r.plainNode(n, depth)
	delete(r.open, n)
	r.shared[n] = v
	return v, err
}

func (r *reader) alias(n *syntax, depth int) (sized, error) {
	if r.open[n.target] {
		return sized{}, n.at.Errorf("the alias *%s refers to the value it is part of", n.text)
	}
	v, err := r.node(n.target, depth)
	if err != nil {
		return sized{}, err
	}
	r.total += v.size
	if r.total > maxYAMLNodes {
		return sized{}, n.at.Errorf("the document has more than %d values with its aliases written out", maxYAMLNodes)
	}
	return v, nil
}

func (r *reader) plainNode(n *syntax, depth int) (sized, error) {
	before := r.total
	r.total++
	var made *Node
	var err error
	switch n.kind {
	case scalarSyntax:
		made, err = r.scalar(n)
	case listSyntax:
		made, err = r.list(n, depth)
	default:
		made, err = r.mapping(n, depth)
	}
	return sized{made, r.total - before}, err
}

// explicitTag is the tag that was written, shortened to !! where it can be, or "".
func explicitTag(n *syntax) string {
	if n.tag == "!" {
		return ""
	}
	if name, ok := strings.CutPrefix(n.tag, tags); ok {
		return "!!" + name
	}
	return n.tag
}

func (r *reader) scalar(n *syntax) (*Node, error) {
	out, err := r.anyScalar(n)
	if err != nil {
		return nil, err
	}
	switch out.Value.(type) {
	case special:
		return nil, out.At.Errorf("%q has a meaning only as a key: write it in quotes", n.text)
	}
	return out, nil
}

// anyScalar makes a scalar, which may be a special key.
func (r *reader) anyScalar(n *syntax) (*Node, error) {
	out := &Node{At: n.at}
	var err error
	var odd string
	switch tag := explicitTag(n); {
	case tag != "":
		out.Value, err = resolveTagged(tag, n.text)
	case !n.quoted || n.tag == "!":
		out.Value, odd, err = resolvePlain(n.text)
	default:
		out.Value = n.text
	}
	if err != nil {
		return nil, out.At.Errorf("%v", err)
	}
	if odd != "" {
		out.surprise = &surprised{odd, n.text}
		r.warnings = append(r.warnings, Finding{At: out.At, Name: odd, Msg: out.Explain(), Warning: true})
	}
	return out, nil
}

func (r *reader) list(n *syntax, depth int) (*Node, error) {
	if tag := explicitTag(n); tag != "" && tag != "!!seq" {
		return nil, n.at.Errorf("the tag %s is not for a list", tag)
	}
	list := make([]*Node, len(n.items))
	for i, c := range n.items {
		v, err := r.node(c, depth+1)
		if err != nil {
			return nil, err
		}
		list[i] = v.node
	}
	return &Node{Value: list, At: n.at}, nil
}

func (r *reader) mapping(n *syntax, depth int) (*Node, error) {
	if tag := explicitTag(n); tag != "" && tag != "!!map" {
		return nil, n.at.Errorf("the tag %s is not for a mapping", tag)
	}
	own, merged := NewFieldSet(len(n.items)/2), Fields(nil)
	for i := 0; i+1 < len(n.items); i += 2 {
		key, err := r.key(n.items[i], depth+1)
		if err != nil {
			return nil, err
		}
		v, err := r.node(n.items[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		if key.Value == any(mergeKey) {
			more, err := r.merged(n.items[i+1], v.node)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		r.enter(own, Field{key, v.node})
	}
	if len(merged) == 0 {
		return &Node{Value: own.Fields, At: n.at}, nil
	}
	all := NewFieldSet(len(merged) + len(own.Fields))
	for _, f := range append(merged, own.Fields...) {
		all.Set(f)
	}
	return &Node{Value: all.Fields, At: n.at}, nil
}

// enter sets a field and warns when it was set before.
func (r *reader) enter(s *FieldSet, f Field) {
	if old := s.Set(f); old != nil {
		r.warnings = append(r.warnings, Finding{At: f.Key.At, Name: duplicateKey, Warning: true,
			Msg: fmt.Sprintf("the key %s is there already at %s: only this last one counts", keyText(f.Key), old.Value.At)})
	}
}

// key makes the key of a mapping.
func (r *reader) key(n *syntax, depth int) (*Node, error) {
	if n.kind == scalarSyntax && n.anchor == "" {
		r.total++
		key, err := r.anyScalar(n)
		if err == nil && key.Value == any(valueKey) {
			key.Value = "="
		}
		return key, err
	}
	v, err := r.node(n, depth)
	if err != nil {
		return nil, err
	}
	switch v.node.Value.(type) {
	case []*Node, Fields:
		return nil, n.at.Errorf("a %s can't be a key", v.node.Kind())
	}
	return v.node, nil
}

// merged lists the fields that the value of a merge key brings in.
func (r *reader) merged(at *syntax, v *Node) (Fields, error) {
	switch m := v.Value.(type) {
	case Fields:
		return m, nil
	case []*Node:
		var all Fields
		for i := len(m) - 1; i >= 0; i-- { // the first of them wins
			f, ok := m[i].Value.(Fields)
			if !ok {
				return nil, m[i].At.Errorf(`"<<" wants a mapping or a list of mappings, got a list with a %s`, m[i].Kind())
			}
			all = append(all, f...)
		}
		return all, nil
	}
	return nil, at.at.Errorf(`"<<" wants a mapping or a list of mappings, got %s`, v.Kind())
}
