package erlang

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Format renders terms as a text that file:consult/1 reads back equal:
// each term ends in a dot and begins a line, laid out as Erlang's own
// formatter does it (io:format("~tp.~n", [Term]) of release 25, 80 columns). Unlike
// there, a list of small integers stays what it is and is never shown as a
// string, and the pairs of a map keep their order. A first line names the
// encoding, UTF-8, where there is anything but ASCII.
func Format(terms []Term) []byte {
	var b bytes.Buffer
	for i := range terms {
		n := layout(&terms[i])
		(&writer{b: &b}).document(&n)
		b.WriteString(".\n")
	}
	if bytes.ContainsFunc(b.Bytes(), func(r rune) bool { return r >= utf8.RuneSelf }) {
		return append([]byte("%% -*- coding: utf-8 -*-\n"), b.Bytes()...)
	}
	return b.Bytes()
}

// node is a term ready to be laid out: with the text of what has no parts,
// and its width in columns on one line.
type node struct {
	form  form
	text  string // of a leaf; of a binary the numbers
	width int
	items []node // of a map, pairs of two
	tail  bool   // whether the last item is the tail of the list
}

type form uint8

const (
	leafNode   form = iota
	bytesNode       // a binary as numbers, which can be broken over lines
	listNode        // [a, b]
	tupleNode       // {1, a}
	taggedNode      // {tag, a}: what follows the tag is indented by the tag's width
	mapNode         // #{k => v}
	pairNode        // k => v
)

// layout measures a term.
func layout(t *Term) node {
	switch {
	case t.kind == stringTerm && !printable(t.text):
		return characters(t.text)
	case t.kind == binaryTerm:
		return newBinary(t)
	case len(t.items) == 0 || t.kind == funTerm:
		return leaf(leafText(t))
	case t.kind == mapTerm:
		return newMap(t)
	}
	n := node{form: listNode, width: 1 + len(t.items), tail: t.improper, items: make([]node, len(t.items))}
	if t.kind == tupleTerm {
		n.form = tupleNode
		if len(t.items) > 1 && t.items[0].kind == atomTerm {
			n.form = taggedNode
		}
	}
	for i := range t.items {
		n.items[i] = layout(&t.items[i])
		n.width += n.items[i].width
	}
	return n
}

func leaf(text string) node { return node{text: text, width: utf8.RuneCountInString(text)} }

// characters is a string that can't be shown as one.
func characters(s string) node {
	n := node{form: listNode, width: 1}
	for _, r := range s {
		number := leaf(formatInt(int64(r)))
		n.items = append(n.items, number)
		n.width += number.width + 1
	}
	return n
}

func newMap(t *Term) node {
	n := node{form: mapNode, width: 2 + len(t.items)/2}
	for i := 0; i+1 < len(t.items); i += 2 {
		pair := node{form: pairNode, items: []node{layout(&t.items[i]), layout(&t.items[i+1])}}
		pair.width = pair.items[0].width + 4 + pair.items[1].width
		n.width += pair.width
		n.items = append(n.items, pair)
	}
	return n
}

// newBinary shows a binary as text where it can be, else as numbers.
func newBinary(t *Term) node {
	shown, encoding := t.text, ""
	switch {
	case !utf8.ValidString(shown):
		shown = latin1(shown)
	case !ascii(shown):
		encoding = "/utf8"
	}
	switch {
	case t.text == "":
		return leaf("<<>>")
	case t.bits > 0 || !printable(shown):
		text := numbers(t)
		return node{form: bytesNode, text: text, width: len(text) + 4}
	}
	return leaf("<<" + quote(shown, '"') + encoding + ">>")
}

// numbers is the bytes of a binary between commas; a last one that is not
// full has its number of bits behind it.
func numbers(t *Term) string {
	b := make([]byte, 0, 4*len(t.text))
	for i := range len(t.text) {
		if i > 0 {
			b = append(b, ',')
		}
		if i == len(t.text)-1 && t.bits > 0 {
			b = strconv.AppendUint(b, uint64(t.text[i]>>(8-t.bits)), 10)
			b = strconv.AppendUint(append(b, ':'), uint64(t.bits), 10)
			break
		}
		b = strconv.AppendUint(b, uint64(t.text[i]), 10)
	}
	return string(b)
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// printable reports whether a string can be shown as one: without other
// control characters than those that have an escape sequence of a letter.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !isPrintable(r) })
}

func isPrintable(r rune) bool {
	return r >= ' ' && r <= '~' || r >= 0xa0 && r != 0xfffe && r != 0xffff || r >= '\b' && r <= '\r' || r == 0x1b
}

// latin1 is the text that bytes are in Latin-1.
func latin1(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func leafText(t *Term) string {
	switch t.kind {
	case atomTerm:
		return atomText(t.text)
	case stringTerm:
		if t.text == "" {
			return "[]"
		}
		return quote(t.text, '"')
	case listTerm:
		return "[]"
	case tupleTerm:
		return "{}"
	case mapTerm:
		return "#{}"
	case varTerm:
		return "${" + t.text + "}"
	case funTerm:
		return "fun " + atomText(t.items[0].text) + ":" + atomText(t.items[1].text) + "/" + t.items[2].text
	}
	return t.text
}

// atomText quotes an atom where it must be. "maybe" and "else" are words
// of the language since release 27.
func atomText(name string) string {
	if n := isNameChar(name); n == 1 && name[0] >= 'a' && name[0] <= 'z' || n == 2 && name[1] >= 0x9f {
		if nameLen(name) == len(name) && !isReserved(name) && name != "maybe" && name != "else" {
			return name
		}
	}
	return quote(name, '\'')
}

// quote writes text between quotes.
func quote(s string, quote byte) string {
	b := make([]byte, 1, len(s)+2)
	b[0] = quote
	for _, r := range s {
		switch i := strings.IndexRune("\b\x7f\x1b\f\n\r\t\v", r); {
		case r == rune(quote) || r == '\\':
			b = append(b, '\\', byte(r))
		case i >= 0:
			b = append(b, '\\', "bdefnrtv"[i])
		case r < ' ' || r > '~' && r < 0xa0:
			b = append(b, '\\', byte('0'+r>>6), byte('0'+r>>3&7), byte('0'+r&7))
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return string(append(b, quote))
}

// floatText is the shortest decimal that reads back equal, with an exponent
// where that is shorter or where the number has no exact neighbours.
func floatText(f float64) string {
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
	power, _ := strconv.Atoi(exponent)
	scientific := withPoint(mantissa) + "e" + strconv.Itoa(power)
	plain := withPoint(strconv.FormatFloat(f, 'f', -1, 64))
	if math.Abs(f) >= 1<<53 || len(plain) > len(scientific) {
		return scientific
	}
	return plain
}

func withPoint(digits string) string {
	if strings.Contains(digits, ".") {
		return digits
	}
	return digits + ".0"
}

// FormatLine renders a term on one line, without a dot.
func FormatLine(t *Term) string {
	var b bytes.Buffer
	n := layout(t)
	(&writer{b: &b}).line(&n)
	return b.String()
}
