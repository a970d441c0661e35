package yaml

import (
	"slices"

	"b9.build/b9/engine/internal/position"
)

// tags is what the tags that begin with !! stand for.
const tags = "tag:yaml.org,2002:"

// parser makes values of tokens. After a mistake in the syntax, which the scanner
// keeps, it finds only the end of the stream. After a mistake in a value it
// reads on, since a mistake in the syntax is what to report first.
type parser struct {
	*scanner
	handles  map[string]string // of tags
	anchors  map[string]*anchored
	total    int               // values made, with aliases written out
	began    position.Position // of the value that was read last
	warnings []Finding
	bad      *position.Error // the first mistake in a value
}

// anchored is a value with an anchor, and how many values it stands for: 0
// while it is being read.
type anchored struct {
	node *Node
	size int
}

// slot says what may stand where a value is read.
type slot struct {
	block bool // a block collection
	flat  bool // a list that is indented no deeper than the key it belongs to
	key   bool // only the key of a mapping
	depth int
}

func (p *parser) refuse(at position.Position, format string, args ...any) {
	if p.bad == nil {
		p.bad = at.Errorf(format, args...)
	}
}

// kind is that of the next token.
func (p *parser) kind() tokenKind { return p.peek().kind }

// isOneOf reports whether the next token is of one of the kinds.
func (p *parser) isOneOf(kinds ...tokenKind) bool { return slices.Contains(kinds, p.kind()) }

// stream reads the only document of a text.
func (p *parser) stream() *Node {
	var root *Node
	switch p.kind() {
	case tokStreamEnd:
		return &Node{At: p.position(mark{})}
	case tokDirective, tokDocumentStart:
		p.documentStart()
		if p.isOneOf(tokDirective, tokDocumentStart, tokDocumentEnd, tokStreamEnd) {
			root = p.null(p.peek().at, 0)
			break
		}
		fallthrough
	default:
		root = p.node(slot{block: true})
	}
	for p.kind() == tokDocumentEnd {
		p.next()
	}
	switch next := p.peek(); next.kind {
	case tokStreamEnd:
	case tokDirective, tokDocumentStart:
		p.fail(next.at, "a second document begins here: give one document a file")
	default:
		p.fail(next.at, "the document ends before %s: check the indentation of this line", next.kind)
	}
	return root
}

// documentStart reads directives and "---".
func (p *parser) documentStart() {
	version := false
	defined := map[string]bool{}
	for p.kind() == tokDirective {
		t := p.next()
		switch {
		case t.handle != "":
			if defined[t.handle] {
				p.fail(t.at, "the tag handle %s is defined twice", t.handle)
			}
			defined[t.handle], p.handles[t.handle] = true, t.text
		case t.text == "YAML":
			if version {
				p.fail(t.at, "a second %%YAML")
			}
			version = true
		}
	}
	if t := p.next(); t.kind != tokDocumentStart {
		p.fail(t.at, `"---" is missing between the directives and the document`)
	}
}

// null makes a value, which is null until it is set.
func (p *parser) null(at mark, depth int) *Node {
	if depth > maxDepth {
		p.fail(at, "nested more than %d deep", maxDepth)
	}
	p.total++
	p.began = p.position(at)
	return &Node{At: p.began}
}

// node reads a value.
func (p *parser) node(s slot) *Node {
	first := p.peek()
	if first.kind == tokAlias {
		return p.keyed(s, p.alias(), p.position(first.at))
	}
	before := p.total
	n := p.null(first.at, s.depth)
	tag, anchor := p.properties(n)
	switch next := p.peek(); {
	case next.kind == tokScalar:
		p.next()
		p.scalar(n, tag, next, s.key && anchor == nil)
	case p.isCollection(next.kind, s):
		p.collection(n, tag, next.kind, s.depth+1)
	case anchor == nil && tag == "":
		p.fail(next.at, "want a value, got %s", next.kind)
	default:
		p.scalar(n, tag, token{}, false)
	}
	if anchor != nil {
		anchor.size = p.total - before
	}
	return p.keyed(s, n, n.At)
}

// keyed notes where a value was written, and refuses a key that can't be one.
func (p *parser) keyed(s slot, n *Node, at position.Position) *Node {
	p.began = at
	switch n.Value.(type) {
	case []*Node, Fields:
		if s.key {
			p.refuse(at, "a %s can't be a key", n.Kind())
		}
	}
	return n
}

func (p *parser) alias() *Node {
	t := p.next()
	target := p.anchors[t.text]
	switch {
	case target == nil:
		p.fail(t.at, "the alias *%s refers to no anchor before it: put the text in quotes if it is none", t.text)
		return p.null(t.at, 0)
	case target.size == 0:
		p.refuse(p.position(t.at), "the alias *%s refers to the value it is part of", t.text)
		return p.null(t.at, 0)
	}
	if p.total += target.size; p.total > maxYAMLNodes {
		p.refuse(p.position(t.at), "the document has more than %d values with its aliases written out", maxYAMLNodes)
	}
	return target.node
}

// properties reads an anchor and a tag, in either order. The tag is in full; it
// is "" if there is none, "!" if it says nothing.
func (p *parser) properties(n *Node) (tag string, anchor *anchored) {
	for range 2 {
		t := p.peek()
		switch {
		case t.kind == tokAnchor && anchor == nil:
			if before := p.anchors[t.text]; before != nil {
				p.fail(t.at, "the anchor &%s is there already at %s", t.text, before.node.At)
			}
			anchor = &anchored{node: n}
			p.anchors[t.text] = anchor
		case t.kind == tokTag && tag == "":
			prefix, known := p.handles[t.handle]
			if t.handle != "" && !known {
				p.fail(t.at, "the tag handle %s is not defined", t.handle)
			}
			tag = prefix + t.text
		default:
			return tag, anchor
		}
		p.next()
	}
	return tag, anchor
}

// isCollection reports whether a token begins a list or a mapping that may stand in the slot.
func (p *parser) isCollection(kind tokenKind, s slot) bool {
	switch kind {
	case tokListOpen, tokMappingOpen:
		return true
	case tokBlockList, tokBlockMapping:
		return s.block
	case tokDash:
		return s.flat
	}
	return false
}

// collection reads the list or mapping that a token begins. Its items are depth deep.
func (p *parser) collection(n *Node, tag string, kind tokenKind, depth int) {
	switch kind {
	case tokListOpen, tokBlockList, tokDash:
		p.wantTag(n, tag, "!!seq", "list")
	default:
		p.wantTag(n, tag, "!!map", "mapping")
	}
	if kind != tokDash {
		p.next()
	}
	switch kind {
	case tokListOpen:
		n.Value = p.flowList(n, depth)
	case tokMappingOpen:
		n.Value = p.flowMapping(n, depth)
	case tokDash:
		n.Value = p.dashes(depth, tokDash, tokKey, tokValue, tokBlockEnd)
	case tokBlockList:
		n.Value = p.dashes(depth, tokDash, tokBlockEnd)
		p.blockEnd("list", n)
	case tokBlockMapping:
		n.Value = p.blockMapping(depth)
		p.blockEnd("mapping", n)
	}
}

func (p *parser) wantTag(n *Node, tag, want, what string) {
	if tag = shortTag(tag); tag != "" && tag != want {
		p.refuse(n.At, "the tag %s is not for a %s", tag, what)
	}
}

// item reads a value behind a "-", "?", ":" or what stands for one. It is left
// out if one of the kinds comes next.
func (p *parser) item(s slot, none ...tokenKind) *Node {
	t := p.next()
	if !p.isOneOf(none...) {
		return p.node(s)
	}
	if s.block {
		t.at.col++ // behind it
	}
	return p.null(t.at, s.depth)
}

// keyValue reads the value of a key, which is left out if no ":" is there or one of the kinds comes next.
func (p *parser) keyValue(s slot, none ...tokenKind) *Node {
	if p.kind() == tokValue {
		return p.item(s, none...)
	}
	return p.null(p.peek().at, s.depth)
}

// dashes reads the items of a list that has no brackets.
func (p *parser) dashes(depth int, none ...tokenKind) []*Node {
	list := []*Node{}
	for p.kind() == tokDash {
		list = append(list, p.item(slot{block: true, depth: depth}, none...))
	}
	return list
}

func (p *parser) blockMapping(depth int) Fields {
	m := mapping{own: NewFieldSet(0)}
	for p.kind() == tokKey {
		key := p.item(slot{block: true, flat: true, key: true, depth: depth}, tokKey, tokValue, tokBlockEnd)
		p.enter(&m, key, p.keyValue(slot{block: true, flat: true, depth: depth}, tokKey, tokValue, tokBlockEnd))
	}
	return m.fields()
}

func (p *parser) blockEnd(what string, n *Node) {
	if t := p.next(); t.kind != tokBlockEnd {
		p.fail(t.at, "%s can't stand in the %s that begins at line %d: check the indentation of this line", t.kind, what, n.At.Line)
	}
}

func (p *parser) flowList(n *Node, depth int) []*Node {
	list := []*Node{}
	for p.kind() != tokListClose && p.err == nil {
		if p.kind() == tokKey {
			list = append(list, p.flowPair(depth))
		} else {
			list = append(list, p.node(slot{depth: depth}))
		}
		p.flowSeparator(tokListClose, n)
	}
	p.next()
	return list
}

// flowPair reads a mapping of one key that has no braces, in a list.
func (p *parser) flowPair(depth int) *Node {
	n := p.null(p.peek().at, depth)
	m := mapping{own: NewFieldSet(0)}
	key := p.item(slot{key: true, depth: depth + 1}, tokValue, tokComma, tokListClose)
	p.enter(&m, key, p.keyValue(slot{depth: depth + 1}, tokComma, tokListClose))
	n.Value = m.fields()
	return n
}

func (p *parser) flowMapping(n *Node, depth int) Fields {
	m := mapping{own: NewFieldSet(0)}
	for p.kind() != tokMappingClose && p.err == nil {
		if p.kind() == tokKey {
			key := p.item(slot{key: true, depth: depth}, tokValue, tokComma, tokMappingClose)
			p.enter(&m, key, p.keyValue(slot{depth: depth}, tokComma, tokMappingClose))
		} else {
			key := p.node(slot{key: true, depth: depth})
			p.enter(&m, key, p.null(p.peek().at, depth))
		}
		p.flowSeparator(tokMappingClose, n)
	}
	p.next()
	return m.fields()
}

// flowSeparator reads the comma behind an item, if it is not the last.
func (p *parser) flowSeparator(end tokenKind, n *Node) {
	switch t := p.peek(); t.kind {
	case end:
	case tokComma:
		p.next()
	default:
		p.fail(t.at, `want "," or %s, got %s: the bracket is opened at %s`, end, t.kind, n.At)
	}
}
