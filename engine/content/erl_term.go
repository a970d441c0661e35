package content

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9/engine/position"
)

// ErlKind says what an ErlTerm is.
type ErlKind uint8

// The kinds of Erlang terms.
const (
	ErlAtom   ErlKind = iota + 1 // Text
	ErlInt                       // Text, in decimal digits without leading zeros
	ErlFloat                     // Text, the shortest that reads back equal, as Erlang writes it
	ErlString                    // Text: a list of characters that was written as a string
	ErlBinary                    // Text holds the bytes, Bits says how many bits of the last one count
	ErlList                      // Items; with Improper the last one is the tail
	ErlTuple                     // Items
	ErlMap                       // Items, keys and values in turn
	ErlFun                       // Items: the module, the function, the arity
	ErlVar                       // Text, the name: only in terms that are made, to be printed and read again
)

// ErlTerm is one Erlang term. The zero ErlTerm is none.
type ErlTerm struct {
	Kind     ErlKind
	Bits     uint8 // of a binary: how many bits of its last byte count; 0 is all 8
	Improper bool  // of a list
	off      uint32
	doc      *erlDoc // where it was read, at off; nil for a term that was made
	Text     string
	Items    []ErlTerm
}

// erlDoc is a text that terms were read from.
type erlDoc struct {
	name, text string
	placeless  bool // the text was made from values: a position in it says nothing
}

// errorAt is a mistake at a byte offset.
func (d *erlDoc) errorAt(off int, msg string) *position.Error {
	before := d.text[:min(off, len(d.text))]
	line := strings.Count(before, "\n") + 1
	col := utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
	return position.Position{File: d.name, Line: line, Col: col}.Errorf("%s", msg)
}

// Place is where the term was read, as file:line:col, or what it was made from.
func (t *ErlTerm) Place() string {
	switch {
	case t.doc == nil:
		return "a given value"
	case t.doc.placeless:
		return t.doc.name
	}
	return strings.TrimSuffix(t.doc.errorAt(int(t.off), "").Error(), ": ")
}

// NewErlAtom is the atom of that name, of at most 255 characters.
func NewErlAtom(name string) ErlTerm { return ErlTerm{Kind: ErlAtom, Text: name} }

// NewErlVar is a variable, printed as ${name}. Names are of ASCII letters, digits and underscores.
func NewErlVar(name string) ErlTerm { return ErlTerm{Kind: ErlVar, Text: name} }

// NewErlString is a string: a list of the characters of s, which is UTF-8.
func NewErlString(s string) ErlTerm { return ErlTerm{Kind: ErlString, Text: s} }

// NewErlBinary is a binary of the bytes of s.
func NewErlBinary(s string) ErlTerm { return ErlTerm{Kind: ErlBinary, Text: s} }

// NewErlInt is an integer, given as decimal digits with an optional minus.
func NewErlInt(digits string) ErlTerm { return ErlTerm{Kind: ErlInt, Text: digits} }

// NewErlFloat is a float, which must be finite: Erlang knows no others.
func NewErlFloat(f float64) ErlTerm { return ErlTerm{Kind: ErlFloat, Text: erlFloatText(f)} }

// maxErlAtom is how many characters an atom may have.
const maxErlAtom = 255

// CheckErlAtom tells why no atom can have the name.
func CheckErlAtom(name string) error {
	switch {
	case !utf8.ValidString(name) || strings.ContainsAny(name, "\uFFFE\uFFFF"):
		return fmt.Errorf("%q is not text in Unicode, as the name of an atom must be", name)
	case utf8.RuneCountInString(name) > maxErlAtom:
		return fmt.Errorf("an atom has at most %d characters, not %d", maxErlAtom, utf8.RuneCountInString(name))
	}
	return nil
}

// describe names the kind for people.
func (t *ErlTerm) describe() string {
	switch t.Kind {
	case ErlAtom:
		return "an atom"
	case ErlInt:
		return "an integer"
	case ErlFloat:
		return "a float"
	case ErlString:
		return "a string"
	case ErlBinary:
		return "a binary"
	case ErlList:
		return "a list"
	case ErlTuple:
		return "a tuple"
	case ErlMap:
		return "a map"
	case ErlFun:
		return "a fun"
	case ErlVar:
		return "a variable"
	}
	return "nothing"
}

// Equal reports whether Erlang takes the terms for exactly equal (=:=).
func (t *ErlTerm) Equal(u *ErlTerm) bool {
	if t.Kind == u.Kind && len(t.Items) == 0 && len(u.Items) == 0 && t.Kind != ErlFloat {
		return t.Text == u.Text && t.Bits == u.Bits
	}
	return string(t.appendKey(nil)) == string(u.appendKey(nil))
}

// key is a text that exactly equal terms share.
func (t *ErlTerm) key() string { return string(t.appendKey(nil)) }

func (t *ErlTerm) appendKey(b []byte) []byte {
	switch t.Kind {
	case ErlString:
		return appendStringKey(b, t.Text)
	case ErlList:
		return t.appendListKey(b)
	case ErlTuple, ErlFun:
		b = binary.AppendUvarint(append(b, byte('0'+t.Kind)), uint64(len(t.Items)))
		for i := range t.Items {
			b = t.Items[i].appendKey(b)
		}
		return b
	case ErlMap:
		return t.appendMapKey(b)
	}
	text := t.Text
	if t.Kind == ErlFloat && text == "-0.0" {
		text = "0.0"
	}
	b = binary.AppendUvarint(append(b, byte('0'+t.Kind), t.Bits), uint64(len(text)))
	return append(b, text...)
}

// appendStringKey writes a string as the list of integers that it is.
func appendStringKey(b []byte, s string) []byte {
	for _, r := range s {
		c := NewErlInt(erlInt(int64(r)))
		b = c.appendKey(append(b, '|'))
	}
	return append(b, 'n')
}

func (t *ErlTerm) appendListKey(b []byte) []byte {
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

func (t *ErlTerm) appendMapKey(b []byte) []byte {
	pairs := make([]string, 0, len(t.Items)/2)
	for i := 0; i+1 < len(t.Items); i += 2 {
		sum := sha256.Sum256(t.Items[i+1].appendKey(t.Items[i].appendKey(nil)))
		pairs = append(pairs, string(sum[:])) // the pair itself would be copied again at every level of nesting
	}
	slices.Sort(pairs)
	b = binary.AppendUvarint(append(b, byte('0'+ErlMap)), uint64(len(pairs)))
	for _, p := range pairs {
		b = append(b, p...)
	}
	return b
}

// weight is the number of terms in a term, or a number beyond the limit.
func (t *ErlTerm) weight(limit int) int {
	n := 1
	for i := 0; i < len(t.Items) && n <= limit; i++ {
		n += t.Items[i].weight(limit - n)
	}
	return n
}
