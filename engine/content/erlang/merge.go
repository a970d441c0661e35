package erlang

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
)

// The strategies: what becomes of two values for one key that can't be merged.
// All of them merge lists and maps in the way of Merge.
const (
	strict   = "strict"   // equal values are one; others are an error that names both positions
	replace  = "replace"  // the later value wins
	original = "original" // a list of both; a list and a value: the list with the value
)

// Strategies lists the names of the ways to merge, the default first.
func Strategies() []string {
	return []string{strict, replace, original}
}

// Merge merges documents, each the terms of a text, into one.
//
// Lists are merged as property lists: tuples {Key, Value} with equal keys
// become one, in the position of the first, with their values merged in turn; every other
// item of the later list is appended. Maps are merged by key. Strings are
// values, not lists. A key that one of the two lists has more than once can't be
// merged: strict refuses it, replace keeps the later list's tuples, original keeps all.
//
// A document of one list or map is merged with others of its kind; one of
// several terms, or of a tuple, is merged with others of that sort as if its
// terms stood in a list. Empty documents count as neither.
func Merge(docs [][]Term, strategy string) ([]Term, error) {
	if !slices.Contains(Strategies(), strategy) {
		return nil, fmt.Errorf("unknown strategy %q (have %s)", strategy, strings.Join(Strategies(), ", "))
	}
	docs = slices.DeleteFunc(slices.Clone(docs), func(d []Term) bool { return len(d) == 0 })
	if len(docs) == 0 {
		return nil, nil
	}
	m := merger{strategy: strategy}
	first, whole := wholeOf(docs[0])
	for _, d := range docs[1:] {
		next, alike := wholeOf(d)
		if alike != whole {
			return nil, fmt.Errorf("%s: a list or map can't be merged with a text of several terms, which begins at %s: make both the one or the other",
				pick(whole, &docs[0][0], &d[0]).where(), pick(whole, &d[0], &docs[0][0]).where())
		}
		first = m.merge(&first, &next)
	}
	if len(m.errs) > 0 {
		return nil, errors.Join(m.errs...)
	}
	if whole {
		return []Term{first}, nil
	}
	return first.items, nil
}

func pick(first bool, a, b *Term) *Term {
	if first {
		return a
	}
	return b
}

// wholeOf is the list or map that is the only term of a document; or a list of its terms.
func wholeOf(d []Term) (t Term, whole bool) {
	if len(d) == 1 && (d[0].kind == mapTerm || d[0].isList()) {
		return d[0], true
	}
	return Term{kind: listTerm, items: d}, false
}

// isList reports whether the term is merged as a list. The empty string is
// the empty list.
func (t *Term) isList() bool {
	return t.kind == listTerm && !t.improper || t.kind == stringTerm && t.text == ""
}

// isProperty reports whether the term is a tuple {Key, Value}.
func (t *Term) isProperty() bool { return t.kind == tupleTerm && len(t.items) == 2 }

type merger struct {
	strategy string
	path     []string // keys that lead to the values being merged
	errs     []error
}

func (m *merger) merge(a, b *Term) Term {
	switch {
	case a.kind == mapTerm && b.kind == mapTerm:
		return m.maps(a, b)
	case a.isList() && b.isList():
		return m.lists(a, b)
	case m.strategy == replace:
		return *b
	case m.strategy == strict:
		if !a.equal(b) {
			m.conflict(a, b)
		}
		return *a
	case a.isList():
		return Term{kind: listTerm, off: a.off, doc: a.doc, items: append(slices.Clip(a.items), *b)}
	case b.isList():
		return Term{kind: listTerm, off: b.off, doc: b.doc, items: append([]Term{*a}, b.items...)}
	}
	return Term{kind: listTerm, off: a.off, doc: a.doc, items: []Term{*a, *b}}
}

// mergeAt merges the values of a key.
func (m *merger) mergeAt(key, a, b *Term) Term {
	m.path = append(m.path, short(key))
	v := m.merge(a, b)
	m.path = m.path[:len(m.path)-1]
	return v
}

// lists merges property lists.
func (m *merger) lists(a, b *Term) Term {
	out := slices.Clone(a.items)
	inA, inB := properties(a.items), properties(b.items)
	gone := map[int]bool{}
	for i := range b.items {
		e := &b.items[i]
		if !e.isProperty() {
			out = append(out, *e)
			continue
		}
		key := e.items[0].key()
		first, second := inA[key], inB[key]
		switch {
		case len(first) == 1 && len(second) == 1:
			old := &a.items[first[0]]
			value := m.mergeAt(&old.items[0], &old.items[1], &e.items[1])
			out[first[0]].items = []Term{old.items[0], value}
			continue
		case len(first) > 0 && m.strategy == strict && i == second[0]:
			m.ambiguous(&a.items[first[0]], e)
		case len(first) > 0 && m.strategy == replace:
			for _, j := range first {
				gone[j] = true
			}
		}
		out = append(out, *e)
	}
	kept := out[:0]
	for i := range out {
		if !gone[i] {
			kept = append(kept, out[i])
		}
	}
	return Term{kind: listTerm, off: a.off, doc: a.doc, items: kept}
}

// properties finds the tuples of each key.
func properties(items []Term) map[string][]int {
	at := map[string][]int{}
	for i := range items {
		if items[i].isProperty() {
			key := items[i].items[0].key()
			at[key] = append(at[key], i)
		}
	}
	return at
}

func (m *merger) maps(a, b *Term) Term {
	out := slices.Clone(a.items)
	at := make(map[string]int, len(a.items)/2)
	for i := 0; i+1 < len(a.items); i += 2 {
		at[a.items[i].key()] = i
	}
	for i := 0; i+1 < len(b.items); i += 2 {
		key, value := &b.items[i], &b.items[i+1]
		if j, both := at[key.key()]; both {
			out[j+1] = m.mergeAt(key, &a.items[j+1], value)
			continue
		}
		out = append(out, *key, *value)
	}
	return Term{kind: mapTerm, off: a.off, doc: a.doc, items: out}
}

func (m *merger) conflict(a, b *Term) {
	m.note(fmt.Errorf(`%s: %s is %s here and %s at %s: make them equal, or let the later one win with the strategy "replace"`,
		b.where(), m.where(), short(b), short(a), a.where()))
}

func (m *merger) ambiguous(a, b *Term) {
	m.path = append(m.path, short(&b.items[0]))
	m.note(fmt.Errorf(`%s: %s is here and at %s, in one of the two lists more than once: there must be one of each, unless the strategy is "replace" or "original"`,
		b.where(), m.where(), a.where()))
	m.path = m.path[:len(m.path)-1]
}

// where is the path to the values, such as kernel.logger_level.
func (m *merger) where() string {
	if len(m.path) == 0 {
		return "the term"
	}
	return strings.Join(m.path, ".")
}

func (m *merger) note(err error) {
	if len(m.errs) < position.MaxErrors {
		m.errs = append(m.errs, err)
	}
}

// short shows a term in a message.
func short(t *Term) string {
	const most = 40
	if len(t.items) > 8 {
		return t.describe()
	}
	text := FormatLine(t)
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most]) + "…"
	}
	return text
}
