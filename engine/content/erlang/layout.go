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
// tag of a tuple, {tag, ...}, is indented below the tag, unless some tuple would
// then not begin in the left half of the page: document tries the indents of
// Erlang in turn, with a writer that writes nothing, and takes the first that
// suits the whole document.

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

// fits reports whether the node can stand on the line.
func (w *writer) fits(n *node, f frame) bool {
	return n.width < columns-f.col-f.last && n.width+f.used+f.last <= w.total
}

// leaf reports whether a node is never broken over lines.
func (n *node) leaf() bool {
	if n.form == pairNode {
		return n.items[0].form == leafNode && n.items[1].form == leafNode
	}
	return n.form == leafNode
}

// writer writes the nodes of one document.
type writer struct {
	b     *bytes.Buffer
	total int  // the width of the whole term
	tag   int  // what follows a tag wider than this is indented by so much; not positive: by the tag's width
	trial bool // write nothing
	bad   bool // in the trial a tagged tuple does not begin in the left half of the page, and not all of the term fits behind it
}

// document writes a whole term.
func (w *writer) document(n *node) {
	if n.form == leafNode || n.width < columns-1 {
		w.line(n)
		return
	}
	w.total, w.tag = n.width, 1
	for _, tag := range []int{-1, 4} {
		try := writer{b: w.b, total: n.width, tag: tag, trial: true}
		if try.node(n, frame{col: 1}); !try.bad {
			w.tag = tag
			break
		}
	}
	w.node(n, frame{col: 1})
}

func (w *writer) put(text string) {
	if !w.trial {
		w.b.WriteString(text)
	}
}

// line writes a node on one line.
func (w *writer) line(n *node) {
	if w.trial {
		return
	}
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
	}
	open, end := n.brackets()
	w.b.WriteString(open)
	for i := range n.items {
		if i > 0 {
			w.b.WriteString(n.separator(i))
		}
		w.line(&n.items[i])
	}
	w.b.WriteString(end)
}

// brackets are what stands around the items of a node.
func (n *node) brackets() (open, end string) {
	switch n.form {
	case listNode:
		return "[", "]"
	case mapNode:
		return "#{", "}"
	}
	return "{", "}"
}

// separator is what stands before the i-th item.
func (n *node) separator(i int) string {
	if n.tail && i == len(n.items)-1 {
		return "|"
	}
	return ","
}

// node writes a node on as many lines as it needs.
func (w *writer) node(n *node, f frame) {
	if n.form == leafNode || w.fits(n, f) || w.bad {
		w.line(n)
		return
	}
	switch n.form {
	case bytesNode:
		if !w.trial {
			w.bytes(n.text, f)
		}
		return
	case pairNode:
		w.pair(n, f)
		return
	}
	open, end := n.brackets()
	f.used++
	w.put(open)
	if n.form == taggedNode {
		w.tagged(n, f)
	} else {
		w.items(n, 0, frame{col: f.col + len(open), indent: f.indent + len(open), used: f.used, last: f.last})
	}
	w.put(end)
}

// tagged writes a tuple whose tag stands before the other items, which are
// indented by it, or below it.
func (w *writer) tagged(n *node, f frame) {
	tag := n.items[0].width
	w.line(&n.items[0])
	if by := tag + 2; w.tag <= 0 || by <= w.tag {
		behind := f.col + by
		w.bad = w.trial && w.total+behind >= columns && behind >= columns/2
		w.put(",")
		w.items(n, 1, frame{col: behind, indent: f.indent + by, used: f.used + tag + 1, last: f.last})
		return
	}
	below := f.col + w.tag
	w.bad = w.trial && w.total+below > columns && below > columns/2
	inner := frame{col: below, indent: f.indent + w.tag, last: f.last}
	w.tail(n, 1, inner, f.col+tag+2, f.used+tag)
}

// items writes the items from the first on; its line has begun.
func (w *writer) items(n *node, first int, f frame) {
	if n.form == mapNode && w.trial {
		f.used++ // Erlang counts both characters of "#{" here, and one when it writes
	}
	wide := w.item(n, first, f)
	if n.form == mapNode {
		f.used = 0 // Erlang does not count what surrounds a map behind its first pair
	}
	w.tail(n, first+1, f, f.col+wide, f.used+wide)
}

// item writes one item, and returns the columns it took of the line: all of
// them if the next one must begin a line.
func (w *writer) item(n *node, i int, f frame) int {
	e := &n.items[i]
	f.last = n.lastOf(i, f.last)
	if e.leaf() && w.fits(e, f) {
		w.line(e)
		return e.width
	}
	w.node(e, f)
	return columns
}

// lastOf is how many brackets must fit behind the i-th item: none but behind
// the last. The item before a tail counts as the last of the list's items, as
// the tail itself does.
func (n *node) lastOf(i, depth int) int {
	rest := len(n.items) - 1 - i
	if rest > 1 || rest == 1 && !n.tail {
		return 0
	}
	return depth + 1
}

// tail writes the items from the i-th on, each behind its separator. The line
// is at col, and used counts its columns.
func (w *writer) tail(n *node, i int, f frame, col, used int) {
	for ; i < len(n.items); i++ {
		e, last := &n.items[i], n.lastOf(i, f.last)
		w.put(n.separator(i))
		if w.beside(n, i, frame{col: col, used: used}, last) {
			w.line(e)
			col, used = col+1+e.width, used+1+e.width
			continue
		}
		if w.trial && n.separator(i) == "|" { // Erlang tries the tail of a list where the line ends
			w.node(e, frame{col: col, last: last})
			return
		}
		w.newline(f.indent)
		wide := w.item(n, i, frame{col: f.col, indent: f.indent, last: f.last})
		col, used = f.col+wide, wide
	}
}

// beside reports whether the i-th item can stand on the line of the one before.
func (w *writer) beside(n *node, i int, here frame, last int) bool {
	e := &n.items[i]
	switch {
	case !e.leaf():
		return false
	case last == 0 && n.separator(i) == ",":
		return e.width+2 < columns-here.col && e.width+2+here.used <= w.total
	}
	return e.width+1 < columns-here.col-last && e.width+1+here.used+last <= w.total
}

func (w *writer) newline(indent int) {
	w.put("\n")
	w.put(strings.Repeat(" ", indent))
}

// pair writes what does not fit on a line: the key, and the value below it.
func (w *writer) pair(n *node, f frame) {
	by := w.tag
	if by <= 0 {
		by = 4
	}
	w.node(&n.items[0], f)
	w.put(" =>")
	w.newline(f.indent + by)
	w.node(&n.items[1], frame{col: f.col + by, indent: f.indent + by, last: f.last})
}

// bytes writes the numbers of a binary over several lines.
func (w *writer) bytes(text string, f frame) {
	room := max(8, min(columns-f.col-2, w.total-4-f.used)-f.last)
	w.put("<<")
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
		w.put(number)
		if !more {
			break
		}
		w.put(",")
		text = rest
	}
	w.put(">>")
}
