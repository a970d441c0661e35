package erlang

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9/engine/position"
)

// Kind says what an Term is.
type Kind uint8

// The kinds of Erlang terms.
const (
	Atom   Kind = iota + 1 // Text
	Int                    // Text, in decimal digits without leading zeros
	Float                  // Text, the shortest that reads back equal, as Erlang writes it
	String                 // Text: a list of characters that was written as a string
	Binary                 // Text holds the bytes, Bits says how many bits of the last one count
	List                   // Items; with Improper the last one is the tail
	Tuple                  // Items
	Map                    // Items, keys and values in turn
	Fun                    // Items: the module, the function, the arity
	Var                    // Text, the name: only in terms that are made, to be printed and read again
)

// Term is one Erlang term. The zero Term is none.
type Term struct {
	Kind     Kind
	Bits     uint8 // of a binary: how many bits of its last byte count; 0 is all 8
	Improper bool  // of a list
	off      uint32
	doc      *document // where it was read, at off; nil for a term that was made
	Text     string
	Items    []Term
}

// document is a text that terms were read from.
type document struct {
	name, text string
	placeless  bool // the text was made from values: a position in it says nothing
}

// errorAt is a mistake at a byte offset.
func (d *document) errorAt(off int, msg string) *position.Error {
	before := d.text[:min(off, len(d.text))]
	line := strings.Count(before, "\n") + 1
	col := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return position.Position{File: d.name, Line: line, Col: col}.Errorf("%s", msg)
}

// Place is where the term was read, as file:line:col, or what it was made from.
func (t *Term) Where() string {
	switch {
	case t.doc == nil:
		return "a given value"
	case t.doc.placeless:
		return t.doc.name
	}
	return strings.TrimSuffix(t.doc.errorAt(int(t.off), "").Error(), ": ")
}

// NewAtom is the atom of that name, of at most 255 characters.
func NewAtom(name string) Term { return Term{Kind: Atom, Text: name} }

// NewVar is a variable, printed as ${name}. Names are of ASCII letters, digits and underscores.
func NewVar(name string) Term { return Term{Kind: Var, Text: name} }

// NewString is a string: a list of the characters of s, which is UTF-8.
func NewString(s string) Term { return Term{Kind: String, Text: s} }

// NewBinary is a binary of the bytes of s.
func NewBinary(s string) Term { return Term{Kind: Binary, Text: s} }

// NewInt is an integer, given as decimal digits with an optional minus.
func NewInt(digits string) Term { return Term{Kind: Int, Text: digits} }

// NewFloat is a float, which must be finite: Erlang knows no others.
func NewFloat(f float64) Term { return Term{Kind: Float, Text: floatText(f)} }

// maxAtom is how many characters an atom may have.
const maxAtom = 255

// CheckAtom tells why no atom can have the name.
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
	switch t.Kind {
	case Atom:
		return "an atom"
	case Int:
		return "an integer"
	case Float:
		return "a float"
	case String:
		return "a string"
	case Binary:
		return "a binary"
	case List:
		return "a list"
	case Tuple:
		return "a tuple"
	case Map:
		return "a map"
	case Fun:
		return "a fun"
	case Var:
		return "a variable"
	}
	return "nothing"
}

// Equal reports whether Erlang takes the terms for exactly equal (=:=).
func (t *Term) Equal(u *Term) bool {
	if t.Kind == u.Kind && len(t.Items) == 0 && len(u.Items) == 0 && t.Kind != Float {
		return t.Text == u.Text && t.Bits == u.Bits
	}
	return string(t.appendKey(nil)) == string(u.appendKey(nil))
}

// key is a text that exactly equal terms share.
func (t *Term) key() string { return string(t.appendKey(nil)) }

func (t *Term) appendKey(b []byte) []byte {
	switch t.Kind {
	case String:
		return appendStringKey(b, t.Text)
	case List:
		return t.appendListKey(b)
	case Tuple, Fun:
		b = binary.AppendUvarint(append(b, byte('0'+t.Kind)), uint64(len(t.Items)))
		for i := range t.Items {
			b = t.Items[i].appendKey(b)
		}
		return b
	case Map:
		return t.appendMapKey(b)
	}
	text := t.Text
	if t.Kind == Float && text == "-0.0" {
		text = "0.0"
	}
	b = binary.AppendUvarint(append(b, byte('0'+t.Kind), t.Bits), uint64(len(text)))
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
	items := t.Items
	if t.Improper {
		items = items[:len(items)-1]
	}
	for i := range items {
		b = items[i].appendKey(append(b, '|'))
	}
	if t.Improper {
		return t.Items[len(t.Items)-1].appendKey(append(b, '.'))
	}
	return append(b, 'n')
}

func (t *Term) appendMapKey(b []byte) []byte {
	pairs := make([]string, 0, len(t.Items)/2)
	for i := 0; i+1 < len(t.Items); i += 2 {
		sum := sha256.Sum256(t.Items[i+1].appendKey(t.Items[i].appendKey(nil)))
		pairs = append(pairs, string(sum[:])) // the pair itself would be copied again at every level of nesting
	}
	slices.Sort(pairs)
	b = binary.AppendUvarint(append(b, byte('0'+Map)), uint64(len(pairs)))
	for _, p := range pairs {
		b = append(b, p...)
	}
	return b
}

// weight is the number of terms in a term, or a number beyond the limit.
func (t *Term) weight(limit int) int {
	n := 1
	for i := 0; i < len(t.Items) && n <= limit; i++ {
		n += t.Items[i].weight(limit - n)
	}
	return n
}
