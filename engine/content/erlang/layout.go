package erlang

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Lines break where Erlang's own formatter breaks them (io_lib_pretty of release
// 25, which io:format("~tp") calls), so that a file that b9 makes and one that a
// release makes differ in nothing but their values.
//
// A term that fits on the line stands on it. Otherwise its items follow each
// other: leaves (what is never broken) share a line while they fit, anything
// else begins a line of its own, indented below its bracket. What follows the
// tag of a tuple, {tag, ...}, is indented below the tag, unless some term of
// the document would then not fit: document tries the indents of Erlang in
// turn, and good tells whether one of them suits the whole document.

// columns is the width of a line.
const columns = 80

// frame is what the layout of a term knows of its surroundings. Columns
// count from 1.
type frame struct {
	col    int // where the term begins
	indent int // blanks that begin a line of its parts
	used   int // columns of the line that surrounding terms occupy
	last   int // closing brackets that must fit behind it on the line
}

// indenter holds what stays the same throughout a document.
type indenter struct {
	total int // the width of the whole term
	tag   int // what follows a tag wider than this is indented by so much; not positive: by the tag's width
}

// fits reports whether the node can stand on the line.
func (x *indenter) fits(n *node, f frame) bool {
	return n.width < columns-f.col-f.last && n.width+f.used+f.last <= x.total
}

// follows reports whether a leaf can stand behind a comma on the line.
func (x *indenter) follows(n *node, leaf bool, f frame, last int) bool {
	if last == 0 {
		return leaf && n.width+2 < columns-f.col && f.used+n.width+2 <= x.total
	}
	return leaf && n.width+1 < columns-f.col-last && f.used+n.width+1+last <= x.total
}

// lastDepth is how many brackets close behind an item: none but behind the last.
func lastDepth(rest, depth int) int {
	if rest > 0 {
		return 0
	}
	return depth + 1
}

// leaf reports whether a node is never broken over lines.
func (n *node) leaf() bool {
	if n.form == pairNode {
		return n.items[0].form == leafNode && n.items[1].form == leafNode
	}
	return n.form == leafNode
}

// mapIndent is by how much the value below its key is indented.
func (x *indenter) mapIndent() int {
	if x.tag > 0 {
		return x.tag
	}
	return 4
}

// writer writes nodes.
type writer struct{ b *bytes.Buffer }

// document writes a whole term.
func (w writer) document(n *node) {
	if n.form == leafNode || n.width < columns-1 {
		w.line(n)
		return
	}
	x := indenter{total: n.width, tag: 1}
	for _, tag := range []int{-1, 4} {
		if try := (indenter{total: n.width, tag: tag}); try.good(n, frame{col: 1}) {
			x = try
			break
		}
	}
	w.node(&x, n, frame{col: 1})
}

// line writes a node on one line.
func (w writer) line(n *node) {
	open, end := "", ""
	switch n.form {
	case leafNode:
		w.b.WriteString(n.text)
		return
	case bytesNode:
		w.b.WriteString("<<" + n.text + ">>")
		return
	case pairNode:
		w.line(&n.items[0])
		w.b.WriteString(" => ")
		w.line(&n.items[1])
		return
	case listNode:
		open, end = "[", "]"
	case mapNode:
		open, end = "#{", "}"
	default:
		open, end = "{", "}"
	}
	w.b.WriteString(open)
	for i := range n.items {
		if i > 0 {
			w.b.WriteByte(n.separator(i))
		}
		w.line(&n.items[i])
	}
	w.b.WriteString(end)
}

// separator is what stands before the i-th item.
func (n *node) separator(i int) byte {
	if n.tail && i == len(n.items)-1 {
		return '|'
	}
	return ','
}

// node writes a node on as many lines as it needs.
func (w writer) node(x *indenter, n *node, f frame) {
	if n.form == leafNode || x.fits(n, f) {
		w.line(n)
		return
	}
	inner := f
	inner.used++
	switch n.form {
	case bytesNode:
		w.bytes(x, n.text, f)
	case listNode, tupleNode:
		inner.col, inner.indent = f.col+1, f.indent+1
		brackets := "{}"
		if n.form == listNode {
			brackets = "[]"
		}
		w.b.WriteByte(brackets[0])
		w.items(x, n, 0, inner)
		w.b.WriteByte(brackets[1])
	case taggedNode:
		w.b.WriteByte('{')
		w.tagged(x, n, inner)
		w.b.WriteByte('}')
	case mapNode:
		inner.col, inner.indent = f.col+2, f.indent+2
		w.b.WriteString("#{")
		w.pairs(x, n, inner)
		w.b.WriteByte('}')
	}
}

// tagged writes a tuple whose tag stands before the other items, which are
// indented by it, or below it.
func (w writer) tagged(x *indenter, n *node, f frame) {
	tag := n.items[0].width
	w.line(&n.items[0])
	if by := tag + 2; x.tag <= 0 || by <= x.tag {
		w.b.WriteByte(',')
		w.items(x, n, 1, frame{col: f.col + by, indent: f.indent + by, used: f.used + tag + 1, last: f.last})
		return
	}
	inner := frame{col: f.col + x.tag, indent: f.indent + x.tag, last: f.last}
	w.tail(x, n, 1, inner, f.col+tag+2, f.used+tag)
}

// items writes the items from the first on; its line has begun.
func (w writer) items(x *indenter, n *node, first int, f frame) {
	wide := w.item(x, n, first, f)
	w.tail(x, n, first+1, f, f.col+wide, f.used+wide)
}

// item writes one item, and returns the columns it took of the line: all of
// them if the next one must begin a line.
func (w writer) item(x *indenter, n *node, i int, f frame) int {
	e := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if e.leaf() && x.fits(e, f) {
		w.line(e)
		return e.width
	}
	w.node(x, e, f)
	return columns
}

// lastOf is how many brackets must fit behind the i-th item. The item before a
// tail counts as the last of the list's items, as the tail itself does.
func (n *node) lastOf(i, depth int) int {
	rest := len(n.items) - 1 - i
	if n.tail && rest > 0 {
		rest--
	}
	return lastDepth(rest, depth)
}

// tail writes the items from the i-th on, each behind its separator. The line
// is at col, and used counts its columns.
func (w writer) tail(x *indenter, n *node, i int, f frame, col, used int) {
	for ; i < len(n.items); i++ {
		e, last := &n.items[i], n.lastOf(i, f.last)
		w.b.WriteByte(n.separator(i))
		here := frame{col: col, used: used}
		if x.beside(n, i, here, last) {
			w.line(e)
			col, used = col+1+e.width, used+1+e.width
			continue
		}
		w.newline(f.indent)
		wide := w.item(x, n, i, frame{col: f.col, indent: f.indent, last: f.last})
		col, used = f.col+wide, wide
	}
}

// beside reports whether the i-th item can stand on the line of the one before.
func (x *indenter) beside(n *node, i int, here frame, last int) bool {
	e := &n.items[i]
	if n.separator(i) == '|' {
		return e.leaf() && e.width+1 < columns-here.col-last && e.width+1+here.used+last <= x.total
	}
	return x.follows(e, e.leaf(), here, last)
}

func (w writer) newline(indent int) {
	w.b.WriteByte('\n')
	w.b.WriteString(strings.Repeat(" ", indent))
}

// pairs writes the pairs of a map.
func (w writer) pairs(x *indenter, n *node, f frame) {
	wide := w.pair(x, n, 0, f)
	col, used := f.col+wide, wide
	for i := 1; i < len(n.items); i++ {
		p := &n.items[i]
		w.b.WriteByte(',')
		if x.follows(p, p.leaf(), frame{col: col, used: used}, n.lastOf(i, f.last)) {
			w.line(p)
			col, used = col+1+p.width, used+1+p.width
			continue
		}
		w.newline(f.indent)
		wide := w.pair(x, n, i, frame{col: f.col, indent: f.indent, last: f.last})
		col, used = f.col+wide, wide
	}
}

// pair writes one pair, and returns the columns as item does.
func (w writer) pair(x *indenter, n *node, i int, f frame) int {
	p := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if x.fits(p, f) {
		w.line(p)
		if p.leaf() {
			return p.width
		}
		return columns
	}
	by := x.mapIndent()
	w.node(x, &p.items[0], f)
	w.b.WriteString(" =>")
	w.newline(f.indent + by)
	w.node(x, &p.items[1], frame{col: f.col + by, indent: f.indent + by, last: f.last})
	return columns
}

// bytes writes the numbers of a binary over several lines.
func (w writer) bytes(x *indenter, text string, f frame) {
	room := max(8, min(columns-f.col-2, x.total-4-f.used)-f.last)
	w.b.WriteString("<<")
	left := room
	for {
		number, rest, more := strings.Cut(text, ",")
		need := utf8.RuneCountInString(number)
		if more {
			need++
		}
		if left -= need; left < 0 {
			w.newline(f.indent + 2)
			left = room - need
		}
		w.b.WriteString(number)
		if !more {
			break
		}
		w.b.WriteByte(',')
		text = rest
	}
	w.b.WriteString(">>")
}

// good reports whether the indentation keeps every tagged tuple in the left
// half of the page, unless all of the term fits behind it.
func (x *indenter) good(n *node, f frame) bool {
	if n.form == leafNode || n.form == bytesNode || x.fits(n, f) {
		return true
	}
	inner := f
	switch n.form {
	case taggedNode:
		inner.used++
		return x.goodTagged(n, inner)
	case mapNode:
		inner.col, inner.used = f.col+2, f.used+2
		return x.goodPairs(n, inner)
	}
	inner.col, inner.used = f.col+1, f.used+1
	return x.goodItems(n, 0, inner)
}

func (x *indenter) goodTagged(n *node, f frame) bool {
	tag := n.items[0].width
	behind := f.col + tag + 2
	if x.tag > 0 && tag+2 > x.tag {
		below := f.col + x.tag
		if x.total+below > columns && below > columns/2 {
			return false
		}
		return x.goodTail(n, 1, frame{col: below, last: f.last}, behind, f.used+tag)
	}
	if x.total+behind >= columns && behind >= columns/2 {
		return false
	}
	return x.goodItems(n, 1, frame{col: behind, used: f.used + tag + 1, last: f.last})
}

func (x *indenter) goodItems(n *node, first int, f frame) bool {
	wide, ok := x.goodItem(n, first, f)
	return ok && x.goodTail(n, first+1, f, f.col+wide, f.used+wide)
}

func (x *indenter) goodItem(n *node, i int, f frame) (wide int, ok bool) {
	e := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if e.leaf() && x.fits(e, f) {
		return e.width, true
	}
	return columns, x.good(e, f)
}

func (x *indenter) goodTail(n *node, i int, f frame, col, used int) bool {
	for ; i < len(n.items); i++ {
		e, last := &n.items[i], n.lastOf(i, f.last)
		if x.beside(n, i, frame{col: col, used: used}, last) {
			col, used = col+1+e.width, used+1+e.width
			continue
		}
		if n.separator(i) == '|' {
			return x.good(e, frame{col: col, last: last})
		}
		wide, ok := x.goodItem(n, i, frame{col: f.col, last: f.last})
		if !ok {
			return false
		}
		col, used = f.col+wide, wide
	}
	return true
}

func (x *indenter) goodPairs(n *node, f frame) bool {
	col, used := 0, 0
	for i := range n.items {
		p, last := &n.items[i], n.lastOf(i, f.last)
		if i > 0 && x.follows(p, p.leaf(), frame{col: col, used: used}, last) {
			col, used = col+1+p.width, used+1+p.width
			continue
		}
		here := frame{col: f.col, last: last}
		if i == 0 {
			here.used = f.used
		}
		wide, ok := x.goodPair(p, here)
		if !ok {
			return false
		}
		col, used = f.col+wide, here.used+wide
	}
	return true
}

func (x *indenter) goodPair(p *node, f frame) (wide int, ok bool) {
	if x.fits(p, f) {
		if p.leaf() {
			return p.width, true
		}
		return columns, true
	}
	value := frame{col: f.col + x.mapIndent(), last: f.last}
	return columns, x.good(&p.items[0], f) && x.good(&p.items[1], value)
}
