package content

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// erlColumns is the width of a line.
const erlColumns = 80

// erlFrame is what the layout of a term knows of its surroundings. Columns
// count from 1.
type erlFrame struct {
	col    int // where the term begins
	indent int // blanks that begin a line of its parts
	used   int // columns of the line that are taken by what is around
	last   int // closing brackets that must fit behind it on the line
}

// erlIndenter holds what stays the same throughout a document.
type erlIndenter struct {
	total int // the width of the whole term
	tag   int // what follows a tag wider than this is indented by so much; not positive: by the tag's width
}

// fits reports whether the node can stand on the line.
func (x *erlIndenter) fits(n *erlNode, f erlFrame) bool {
	return n.width < erlColumns-f.col-f.last && n.width+f.used+f.last <= x.total
}

// follows reports whether a leaf can stand behind a comma on the line.
func (x *erlIndenter) follows(n *erlNode, leaf bool, f erlFrame, last int) bool {
	if last == 0 {
		return leaf && n.width+2 < erlColumns-f.col && f.used+n.width+2 <= x.total
	}
	return leaf && n.width+1 < erlColumns-f.col-last && f.used+n.width+1+last <= x.total
}

// lastDepth is how many brackets close behind an item: none but behind the last.
func lastDepth(rest, depth int) int {
	if rest > 0 {
		return 0
	}
	return depth + 1
}

// leaf reports whether a node is never broken over lines.
func (n *erlNode) leaf() bool {
	if n.form == erlPair {
		return n.items[0].form == erlLeaf && n.items[1].form == erlLeaf
	}
	return n.form == erlLeaf
}

// mapIndent is by how much the value below its key is indented.
func (x *erlIndenter) mapIndent() int {
	if x.tag > 0 {
		return x.tag
	}
	return 4
}

// erlWriter writes nodes.
type erlWriter struct{ b *bytes.Buffer }

// document writes a whole term.
func (w erlWriter) document(n *erlNode) {
	if n.form == erlLeaf || n.width < erlColumns-1 {
		w.line(n)
		return
	}
	x := erlIndenter{total: n.width, tag: 1}
	for _, tag := range []int{-1, 4} {
		if try := (erlIndenter{total: n.width, tag: tag}); try.good(n, erlFrame{col: 1}) {
			x = try
			break
		}
	}
	w.node(&x, n, erlFrame{col: 1})
}

// line writes a node on one line.
func (w erlWriter) line(n *erlNode) {
	open, end := "", ""
	switch n.form {
	case erlLeaf:
		w.b.WriteString(n.text)
		return
	case erlBytes:
		w.b.WriteString("<<" + n.text + ">>")
		return
	case erlPair:
		w.line(&n.items[0])
		w.b.WriteString(" => ")
		w.line(&n.items[1])
		return
	case erlList:
		open, end = "[", "]"
	case erlMap:
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
func (n *erlNode) separator(i int) byte {
	if n.tail && i == len(n.items)-1 {
		return '|'
	}
	return ','
}

// node writes a node on as many lines as it needs.
func (w erlWriter) node(x *erlIndenter, n *erlNode, f erlFrame) {
	if n.form == erlLeaf || x.fits(n, f) {
		w.line(n)
		return
	}
	inner := f
	inner.used++
	switch n.form {
	case erlBytes:
		w.bytes(x, n.text, f)
	case erlList, erlTuple:
		inner.col, inner.indent = f.col+1, f.indent+1
		brackets := "{}"
		if n.form == erlList {
			brackets = "[]"
		}
		w.b.WriteByte(brackets[0])
		w.items(x, n, 0, inner)
		w.b.WriteByte(brackets[1])
	case erlTagged:
		w.b.WriteByte('{')
		w.tagged(x, n, inner)
		w.b.WriteByte('}')
	case erlMap:
		inner.col, inner.indent = f.col+2, f.indent+2
		w.b.WriteString("#{")
		w.pairs(x, n, inner)
		w.b.WriteByte('}')
	}
}

// tagged writes a tuple whose tag stands before the other items, which are
// indented by it, or below it.
func (w erlWriter) tagged(x *erlIndenter, n *erlNode, f erlFrame) {
	tag := n.items[0].width
	w.line(&n.items[0])
	if by := tag + 2; x.tag <= 0 || by <= x.tag {
		w.b.WriteByte(',')
		w.items(x, n, 1, erlFrame{col: f.col + by, indent: f.indent + by, used: f.used + tag + 1, last: f.last})
		return
	}
	inner := erlFrame{col: f.col + x.tag, indent: f.indent + x.tag, last: f.last}
	w.tail(x, n, 1, inner, f.col+tag+2, f.used+tag)
}

// items writes the items from the first on; its line has begun.
func (w erlWriter) items(x *erlIndenter, n *erlNode, first int, f erlFrame) {
	wide := w.item(x, n, first, f)
	w.tail(x, n, first+1, f, f.col+wide, f.used+wide)
}

// item writes one item, and returns the columns it took of the line: all of
// them if the next one must begin a line.
func (w erlWriter) item(x *erlIndenter, n *erlNode, i int, f erlFrame) int {
	e := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if e.leaf() && x.fits(e, f) {
		w.line(e)
		return e.width
	}
	w.node(x, e, f)
	return erlColumns
}

// lastOf is how many brackets must fit behind the i-th item. The item before a
// tail counts as the last of the list's items, as the tail itself does.
func (n *erlNode) lastOf(i, depth int) int {
	rest := len(n.items) - 1 - i
	if n.tail && rest > 0 {
		rest--
	}
	return lastDepth(rest, depth)
}

// tail writes the items from the i-th on, each behind its separator. The line
// is at col, and used counts its columns.
func (w erlWriter) tail(x *erlIndenter, n *erlNode, i int, f erlFrame, col, used int) {
	for ; i < len(n.items); i++ {
		e, last := &n.items[i], n.lastOf(i, f.last)
		w.b.WriteByte(n.separator(i))
		here := erlFrame{col: col, used: used}
		if x.beside(n, i, here, last) {
			w.line(e)
			col, used = col+1+e.width, used+1+e.width
			continue
		}
		w.newline(f.indent)
		wide := w.item(x, n, i, erlFrame{col: f.col, indent: f.indent, last: f.last})
		col, used = f.col+wide, wide
	}
}

// beside reports whether the i-th item can stand on the line of the one before.
func (x *erlIndenter) beside(n *erlNode, i int, here erlFrame, last int) bool {
	e := &n.items[i]
	if n.separator(i) == '|' {
		return e.leaf() && e.width+1 < erlColumns-here.col-last && e.width+1+here.used+last <= x.total
	}
	return x.follows(e, e.leaf(), here, last)
}

func (w erlWriter) newline(indent int) {
	w.b.WriteByte('\n')
	w.b.WriteString(strings.Repeat(" ", indent))
}

// pairs writes the pairs of a map.
func (w erlWriter) pairs(x *erlIndenter, n *erlNode, f erlFrame) {
	wide := w.pair(x, n, 0, f)
	col, used := f.col+wide, wide
	for i := 1; i < len(n.items); i++ {
		p := &n.items[i]
		w.b.WriteByte(',')
		if x.follows(p, p.leaf(), erlFrame{col: col, used: used}, n.lastOf(i, f.last)) {
			w.line(p)
			col, used = col+1+p.width, used+1+p.width
			continue
		}
		w.newline(f.indent)
		wide := w.pair(x, n, i, erlFrame{col: f.col, indent: f.indent, last: f.last})
		col, used = f.col+wide, wide
	}
}

// pair writes one pair, and returns the columns as item does.
func (w erlWriter) pair(x *erlIndenter, n *erlNode, i int, f erlFrame) int {
	p := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if x.fits(p, f) {
		w.line(p)
		if p.leaf() {
			return p.width
		}
		return erlColumns
	}
	by := x.mapIndent()
	w.node(x, &p.items[0], f)
	w.b.WriteString(" =>")
	w.newline(f.indent + by)
	w.node(x, &p.items[1], erlFrame{col: f.col + by, indent: f.indent + by, last: f.last})
	return erlColumns
}

// bytes writes the numbers of a binary over several lines.
func (w erlWriter) bytes(x *erlIndenter, text string, f erlFrame) {
	room := max(8, min(erlColumns-f.col-2, x.total-4-f.used)-f.last)
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
func (x *erlIndenter) good(n *erlNode, f erlFrame) bool {
	if n.form == erlLeaf || n.form == erlBytes || x.fits(n, f) {
		return true
	}
	inner := f
	switch n.form {
	case erlTagged:
		inner.used++
		return x.goodTagged(n, inner)
	case erlMap:
		inner.col, inner.used = f.col+2, f.used+2
		return x.goodPairs(n, inner)
	}
	inner.col, inner.used = f.col+1, f.used+1
	return x.goodItems(n, 0, inner)
}

func (x *erlIndenter) goodTagged(n *erlNode, f erlFrame) bool {
	tag := n.items[0].width
	behind := f.col + tag + 2
	if x.tag > 0 && tag+2 > x.tag {
		below := f.col + x.tag
		if x.total+below > erlColumns && below > erlColumns/2 {
			return false
		}
		return x.goodTail(n, 1, erlFrame{col: below, last: f.last}, behind, f.used+tag)
	}
	if x.total+behind >= erlColumns && behind >= erlColumns/2 {
		return false
	}
	return x.goodItems(n, 1, erlFrame{col: behind, used: f.used + tag + 1, last: f.last})
}

func (x *erlIndenter) goodItems(n *erlNode, first int, f erlFrame) bool {
	wide, ok := x.goodItem(n, first, f)
	return ok && x.goodTail(n, first+1, f, f.col+wide, f.used+wide)
}

func (x *erlIndenter) goodItem(n *erlNode, i int, f erlFrame) (wide int, ok bool) {
	e := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if e.leaf() && x.fits(e, f) {
		return e.width, true
	}
	return erlColumns, x.good(e, f)
}

func (x *erlIndenter) goodTail(n *erlNode, i int, f erlFrame, col, used int) bool {
	for ; i < len(n.items); i++ {
		e, last := &n.items[i], n.lastOf(i, f.last)
		if x.beside(n, i, erlFrame{col: col, used: used}, last) {
			col, used = col+1+e.width, used+1+e.width
			continue
		}
		if n.separator(i) == '|' {
			return x.good(e, erlFrame{col: col, last: last})
		}
		wide, ok := x.goodItem(n, i, erlFrame{col: f.col, last: f.last})
		if !ok {
			return false
		}
		col, used = f.col+wide, wide
	}
	return true
}

func (x *erlIndenter) goodPairs(n *erlNode, f erlFrame) bool {
	col, used := 0, 0
	for i := range n.items {
		p, last := &n.items[i], n.lastOf(i, f.last)
		if i > 0 && x.follows(p, p.leaf(), erlFrame{col: col, used: used}, last) {
			col, used = col+1+p.width, used+1+p.width
			continue
		}
		here := erlFrame{col: f.col, last: last}
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

func (x *erlIndenter) goodPair(p *erlNode, f erlFrame) (wide int, ok bool) {
	if x.fits(p, f) {
		if p.leaf() {
			return p.width, true
		}
		return erlColumns, true
	}
	value := erlFrame{col: f.col + x.mapIndent(), last: f.last}
	return erlColumns, x.good(&p.items[0], f) && x.good(&p.items[1], value)
}
