package erlang

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
)

// kind says what a Term is.
type kind uint8

// The kinds of Erlang terms.
const (
	atomTerm   kind = iota + 1 // text
	intTerm                    // text, in decimal digits without leading zeros
	floatTerm                  // text, the shortest that reads back equal, as Erlang writes it
	stringTerm                 // text: a list of characters that was written as a string
	binaryTerm                 // text holds the bytes, bits says how many bits of the last one count
	listTerm                   // items; with improper the last one is the tail
	tupleTerm                  // items
	mapTerm                    // items, keys and values in turn
	funTerm                    // items: the module, the function, the arity
	varTerm                    // text, the name: only in terms that are made, to be printed and read again
)

// Term is one Erlang term. The zero Term is none.
type Term struct {
	kind     kind
	bits     uint8 // of a binary: how many bits of its last byte count; 0 is all 8
	improper bool  // of a list
	off      uint32
	doc      *document // where it was read, at off; nil for a term that was made
	text     string
	items    []Term
}

// document is a text that terms were read from.
type document struct {
	name, text string
	placeless  bool // the text was made from values: a position in it says nothing
}

// at is the position of a byte offset.
func (d *document) at(off int) position.Position {
	c := position.NewCursor(d.name, d.text)
	return c.Position(min(off, len(d.text)))
}

// errorAt is a mistake at a byte offset.
func (d *document) errorAt(off int, msg string) *position.Error { return d.at(off).Errorf("%s", msg) }

// where says where the term was read, as file:line:col, or what it was made from.
func (t *Term) where() string {
	switch {
	case t.doc == nil:
		return "a given value"
	case t.doc.placeless:
		return t.doc.name
	}
	return t.doc.at(int(t.off)).String()
}

// NewAtom is the atom of that name, of at most 255 characters.
func NewAtom(name string) Term { return Term{kind: atomTerm, text: name} }

// NewVar is a variable, printed as ${name}. Names are of ASCII letters, digits and underscores.
func NewVar(name string) Term { return Term{kind: varTerm, text: name} }

// NewString is a string: a list of the characters of s, which is UTF-8.
func NewString(s string) Term { return Term{kind: stringTerm, text: s} }

// NewBinary is a binary of the bytes of s.
func NewBinary(s string) Term { return Term{kind: binaryTerm, text: s} }

// NewInt is an integer, given as decimal digits with an optional minus.
func NewInt(digits string) Term { return Term{kind: intTerm, text: digits} }

// NewFloat is a float, which must be finite: Erlang knows no others.
func NewFloat(f float64) Term { return Term{kind: floatTerm, text: floatText(f)} }

// NewList is a proper list.
func NewList(items []Term) Term { return Term{kind: listTerm, items: items} }

// NewTuple is a tuple.
func NewTuple(items []Term) Term { return Term{kind: tupleTerm, items: items} }

// NewMap is a map of keys and values in turn.
func NewMap(items []Term) Term { return Term{kind: mapTerm, items: items} }

// maxAtom is how many characters an atom may have.
const maxAtom = 255

// CheckAtom returns an error that says why no atom can have the name.
func CheckAtom(name string) error {
	switch {
	case !utf8.ValidString(name) || strings.ContainsAny(name, "\uFFFE\uFFFF"):
		return fmt.Errorf("%q is not text in Unicode, as the name of an atom must be", name)
	case utf8.RuneCountInString(name) > maxAtom:
		return fmt.Errorf("an atom has at most %d characters, not %d", maxAtom, utf8.RuneCountInString(name))
	}
	return nil
}

// describe names the kind for people.
func (t *Term) describe() string {
	return [...]string{
		"nothing", "an atom", "an integer", "a float", "a string", "a binary", "a list", "a tuple", "a map", "a fun", "a variable",
	}[t.kind]
}

// equal reports whether the terms are exactly equal in Erlang (=:=).
func (t *Term) equal(u *Term) bool {
	if t.kind == u.kind && len(t.items) == 0 && len(u.items) == 0 && t.kind != floatTerm {
		return t.text == u.text && t.bits == u.bits
	}
	return string(t.appendKey(nil)) == string(u.appendKey(nil))
}

// key is a text that exactly equal terms share.
func (t *Term) key() string { return string(t.appendKey(nil)) }

func (t *Term) appendKey(b []byte) []byte {
	switch t.kind {
	case stringTerm:
		return appendStringKey(b, t.text)
	case listTerm:
		return t.appendListKey(b)
	case tupleTerm, funTerm:
		b = binary.AppendUvarint(append(b, byte('0'+t.kind)), uint64(len(t.items)))
		for i := range t.items {
			b = t.items[i].appendKey(b)
		}
		return b
	case mapTerm:
		return t.appendMapKey(b)
	}
	text := t.text
	if t.kind == floatTerm && text == "-0.0" {
		text = "0.0"
	}
	b = binary.AppendUvarint(append(b, byte('0'+t.kind), t.bits), uint64(len(text)))
	return append(b, text...)
}

// appendStringKey writes a string as the list of integers that it is.
func appendStringKey(b []byte, s string) []byte {
	for _, r := range s {
		c := NewInt(formatInt(int64(r)))
		b = c.appendKey(append(b, '|'))
	}
	return append(b, 'n')
}

func (t *Term) appendListKey(b []byte) []byte {
	items := t.items
	if t.improper {
		items = items[:len(items)-1]
	}
	for i := range items {
		b = items[i].appendKey(append(b, '|'))
	}
	if t.improper {
		return t.items[len(t.items)-1].appendKey(append(b, '.'))
	}
	return append(b, 'n')
}

func (t *Term) appendMapKey(b []byte) []byte {
	pairs := make([]string, 0, len(t.items)/2)
	for i := 0; i+1 < len(t.items); i += 2 {
		sum := sha256.Sum256(t.items[i+1].appendKey(t.items[i].appendKey(nil)))
		pairs = append(pairs, string(sum[:])) // the pair itself would be copied again at every level of nesting
	}
	slices.Sort(pairs)
	b = binary.AppendUvarint(append(b, byte('0'+mapTerm)), uint64(len(pairs)))
	for _, p := range pairs {
		b = append(b, p...)
	}
	return b
}

// weight is the number of terms in a term, or a number beyond the limit.
func (t *Term) weight(limit int) int {
	n := 1
	for i := 0; i < len(t.items) && n <= limit; i++ {
		n += t.items[i].weight(limit - n)
	}
	return n
}
