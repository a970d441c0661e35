package yaml

import (
	"slices"

	"b9.build/b9/engine/internal/position"
)

// syntax is a node of a YAML document as it was written.
type syntax struct {
	kind   syntaxKind
	at     position.Position
	tag    string // in full; "" if there is none, "!" if it says nothing
	anchor string
	text   string // of a scalar; the name of an alias
	quoted bool   // the scalar is not plain
	items  []*syntax
	target *syntax // of an alias
}

type syntaxKind int

const (
	scalarSyntax syntaxKind = iota
	listSyntax
	mappingSyntax // items are key, value, key, value
	aliasSyntax
)

// tags is what the tags that begin with !! stand for.
const tags = "tag:yaml.org,2002:"

// parser makes a tree of tokens. After a mistake, which the scanner keeps,
// it finds only the end of the stream.
type parser struct {
	*scanner
	handles map[string]string // of tags
	anchors map[string]*syntax
}

// parseSyntax reads the only document of a text; nil is an empty stream.
// It reads and refuses what PyYAML does, beside nesting deeper than maxDepth.
func parseSyntax(file, text string) (*syntax, error) {
	p := parser{newScanner(file, text), map[string]string{"!": "!", "!!": tags}, map[string]*syntax{}}
	root := p.stream()
	if p.err != nil {
		return nil, p.err
	}
	return root, nil
}

// kind is that of the next token.
func (p *parser) kind() tokenKind { return p.peek().kind }

// isOneOf reports whether the next token is of one of the kinds.
func (p *parser) isOneOf(kinds ...tokenKind) bool { return slices.Contains(kinds, p.kind()) }

func (p *parser) stream() *syntax {
	var root *syntax
	switch p.kind() {
	case tokStreamEnd:
		return nil
	case tokDirective, tokDocumentStart:
		p.documentStart()
		if root = p.empty(p.peek().at); !p.isOneOf(tokDirective, tokDocumentStart, tokDocumentEnd, tokStreamEnd) {
			root = p.node(true, false, 0)
		}
	default:
		root = p.node(true, false, 0)
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

func (p *parser) empty(at mark) *syntax { return &syntax{at: p.position(at)} }

// node reads a value. block: it may be a block collection; flat: a list that is
// indented no deeper than the key it belongs to.
func (p *parser) node(block, flat bool, depth int) *syntax {
	first := p.peek()
	if depth > maxDepth {
		p.fail(first.at, "nested more than %d deep", maxDepth)
	}
	if first.kind == tokAlias {
		return p.alias()
	}
	n := p.empty(first.at)
	p.properties(n)
	switch next := p.peek(); {
	case next.kind == tokScalar:
		p.next()
		n.text, n.quoted = next.text, next.quoted
	case next.kind == tokListOpen:
		p.flowList(n, depth+1)
	case next.kind == tokMappingOpen:
		p.flowMapping(n, depth+1)
	case flat && next.kind == tokDash:
		p.flatList(n, depth+1)
	case block && next.kind == tokBlockList:
		p.blockList(n, depth+1)
	case block && next.kind == tokBlockMapping:
		p.blockMapping(n, depth+1)
	case n.anchor == "" && n.tag == "":
		p.fail(next.at, "want a value, got %s", next.kind)
	}
	return n
}

func (p *parser) alias() *syntax {
	t := p.next()
	n := &syntax{kind: aliasSyntax, at: p.position(t.at), text: t.text, target: p.anchors[t.text]}
	if n.target == nil {
		p.fail(t.at, "the alias *%s refers to no anchor before it: put the text in quotes if it is none", t.text)
	}
	return n
}

// properties reads an anchor and a tag, in either order.
func (p *parser) properties(n *syntax) {
	for range 2 {
		t := p.peek()
		switch {
		case t.kind == tokAnchor && n.anchor == "":
			n.anchor = t.text
			if before := p.anchors[n.anchor]; before != nil {
				p.fail(t.at, "the anchor &%s is there already at %s", n.anchor, before.at)
			}
			p.anchors[n.anchor] = n
		case t.kind == tokTag && n.tag == "":
			prefix, known := p.handles[t.handle]
			if t.handle != "" && !known {
				p.fail(t.at, "the tag handle %s is not defined", t.handle)
			}
			n.tag = prefix + t.text
		default:
			return
		}
		p.next()
	}
}

// item reads a value that is left out if one of the kinds comes next.
func (p *parser) item(flat bool, depth int, none ...tokenKind) *syntax {
	t := p.next()
	if p.isOneOf(none...) {
		t.at.col++ // behind the "-", "?" or ":"
		return p.empty(t.at)
	}
	return p.node(true, flat, depth)
}

func (p *parser) blockList(n *syntax, depth int) {
	n.kind = listSyntax
	p.next()
	for p.kind() == tokDash {
		n.items = append(n.items, p.item(false, depth, tokDash, tokBlockEnd))
	}
	p.blockEnd("list", n)
}

func (p *parser) flatList(n *syntax, depth int) {
	n.kind = listSyntax
	for p.kind() == tokDash {
		n.items = append(n.items, p.item(false, depth, tokDash, tokKey, tokValue, tokBlockEnd))
	}
}

func (p *parser) blockMapping(n *syntax, depth int) {
	n.kind = mappingSyntax
	p.next()
	for p.kind() == tokKey {
		key := p.item(true, depth, tokKey, tokValue, tokBlockEnd)
		value := p.empty(p.peek().at)
		if p.kind() == tokValue {
			value = p.item(true, depth, tokKey, tokValue, tokBlockEnd)
		}
		n.items = append(n.items, key, value)
	}
	p.blockEnd("mapping", n)
}

func (p *parser) blockEnd(what string, n *syntax) {
	if t := p.next(); t.kind != tokBlockEnd {
		p.fail(t.at, "%s can't stand in the %s that begins at line %d: check the indentation of this line", t.kind, what, n.at.Line)
	}
}

// flowItem reads a value that is left out if one of the kinds comes next.
func (p *parser) flowItem(depth int, none ...tokenKind) *syntax {
	t := p.next()
	if p.isOneOf(none...) {
		return p.empty(t.at)
	}
	return p.node(false, false, depth)
}

func (p *parser) flowList(n *syntax, depth int) {
	n.kind = listSyntax
	p.next()
	for p.kind() != tokListClose && p.err == nil {
		if p.kind() == tokKey {
			n.items = append(n.items, p.flowPair(depth))
		} else {
			n.items = append(n.items, p.node(false, false, depth))
		}
		p.flowSeparator(tokListClose, n)
	}
	p.next()
}

// flowPair reads a mapping of one key that has no braces, in a list.
func (p *parser) flowPair(depth int) *syntax {
	n := p.empty(p.peek().at)
	n.kind = mappingSyntax
	key := p.flowItem(depth+1, tokValue, tokComma, tokListClose)
	n.items = append(n.items, key, p.flowValue(depth+1, tokListClose))
	return n
}

func (p *parser) flowValue(depth int, end tokenKind) *syntax {
	if p.kind() == tokValue {
		return p.flowItem(depth, tokComma, end)
	}
	return p.empty(p.peek().at)
}

func (p *parser) flowMapping(n *syntax, depth int) {
	n.kind = mappingSyntax
	p.next()
	for p.kind() != tokMappingClose && p.err == nil {
		if p.kind() == tokKey {
			key := p.flowItem(depth, tokValue, tokComma, tokMappingClose)
			n.items = append(n.items, key, p.flowValue(depth, tokMappingClose))
		} else {
			key := p.node(false, false, depth)
			n.items = append(n.items, key, p.empty(p.peek().at))
		}
		p.flowSeparator(tokMappingClose, n)
	}
	p.next()
}

// flowSeparator reads the comma behind an item, if it is not the last.
func (p *parser) flowSeparator(end tokenKind, n *syntax) {
	switch t := p.peek(); t.kind {
	case end:
	case tokComma:
		p.next()
	default:
		p.fail(t.at, `want "," or %s, got %s: the bracket is opened at %s`, end, t.kind, n.at)
	}
}
