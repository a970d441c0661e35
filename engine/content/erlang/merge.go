package erlang

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9/engine/position"
)

// Strategy says what becomes of two values for one key that can't be merged.
type Strategy string

// The strategies. All of them merge lists and maps in the way of Merge.
const (
	Strict   Strategy = "strict"   // equal values are one; others are an error that names both places
	Replace  Strategy = "replace"  // the later value wins
	Original Strategy = "original" // a list of both; a list and a value: the list with the value
)

// Strategies lists the strategies, the default first.
func Strategies() []string {
	return []string{string(Strict), string(Replace), string(Original)}
}

// Merge merges documents, each the terms of a text, into one.
//
// Lists are merged as property lists: tuples {Key, Value} with equal keys
// become one, at the place of the first, with their values merged in turn; every other
// item of the later list is appended. Maps are merged by key. Strings are
// values, not lists. A key that one of the two lists has more than once can't be
// merged: strict refuses it, replace takes the later list's tuples, original keeps all.
//
// A document of one list or map is merged with others of its kind; one of
// several terms, or of a tuple, is merged with others of that sort as if its
// terms stood in a list. Empty documents count as neither.
func Merge(docs [][]Term, strategy Strategy) ([]Term, error) {
	if !slices.Contains(Strategies(), string(strategy)) {
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
				pick(whole, &docs[0][0], &d[0]).Where(), pick(whole, &d[0], &docs[0][0]).Where())
		}
		first = m.merge(&first, &next)
	}
	if len(m.errs) > 0 {
		return nil, errors.Join(m.errs...)
	}
	if whole {
		return []Term{first}, nil
	}
	return first.Items, nil
}

func pick(first bool, a, b *Term) *Term {
	if first {
		return a
	}
	return b
}

// wholeOf is the list or map that is the only term of a document; or a list of its terms.
func wholeOf(d []Term) (t Term, whole bool) {
	if len(d) == 1 && (d[0].Kind == Map || d[0].isList()) {
		return d[0], true
	}
	return Term{Kind: List, Items: d}, false
}

// isList reports whether the term is merged as a list. The empty string is
// the empty list.
func (t *Term) isList() bool {
	return t.Kind == List && !t.Improper || t.Kind == String && t.Text == ""
}

// isProperty reports whether the term is a tuple {Key, Value}.
func (t *Term) isProperty() bool { return t.Kind == Tuple && len(t.Items) == 2 }

type merger struct {
	strategy Strategy
	path     []string // keys that lead to the values being merged
	errs     []error
}

func (m *merger) merge(a, b *Term) Term {
	switch {
	case a.Kind == Map && b.Kind == Map:
		return m.maps(a, b)
	case a.isList() && b.isList():
		return m.lists(a, b)
	case m.strategy == Replace:
		return *b
	case m.strategy == Strict:
		if !a.Equal(b) {
			m.conflict(a, b)
		}
		return *a
	case a.isList():
		return Term{Kind: List, off: a.off, doc: a.doc, Items: append(slices.Clip(a.Items), *b)}
	case b.isList():
		return Term{Kind: List, off: b.off, doc: b.doc, Items: append([]Term{*a}, b.Items...)}
	}
	return Term{Kind: List, off: a.off, doc: a.doc, Items: []Term{*a, *b}}
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
	out := slices.Clone(a.Items)
	inA, inB := properties(a.Items), properties(b.Items)
	gone := map[int]bool{}
	for i := range b.Items {
		e := &b.Items[i]
		if !e.isProperty() {
			out = append(out, *e)
			continue
		}
		key := e.Items[0].key()
		first, second := inA[key], inB[key]
		switch {
		case len(first) == 1 && len(second) == 1:
			old := &a.Items[first[0]]
			value := m.mergeAt(&old.Items[0], &old.Items[1], &e.Items[1])
			out[first[0]].Items = []Term{old.Items[0], value}
			continue
		case len(first) > 0 && m.strategy == Strict && i == second[0]:
			m.ambiguous(&a.Items[first[0]], e)
		case len(first) > 0 && m.strategy == Replace:
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
	return Term{Kind: List, off: a.off, doc: a.doc, Items: kept}
}

// properties finds the tuples of each key.
func properties(items []Term) map[string][]int {
	at := map[string][]int{}
	for i := range items {
		if items[i].isProperty() {
			key := items[i].Items[0].key()
			at[key] = append(at[key], i)
		}
	}
	return at
}

func (m *merger) maps(a, b *Term) Term {
	out := slices.Clone(a.Items)
	at := make(map[string]int, len(a.Items)/2)
	for i := 0; i+1 < len(a.Items); i += 2 {
		at[a.Items[i].key()] = i
	}
	for i := 0; i+1 < len(b.Items); i += 2 {
		key, value := &b.Items[i], &b.Items[i+1]
		if j, both := at[key.key()]; both {
			out[j+1] = m.mergeAt(key, &a.Items[j+1], value)
			continue
		}
		out = append(out, *key, *value)
	}
	return Term{Kind: Map, off: a.off, doc: a.doc, Items: out}
}

func (m *merger) conflict(a, b *Term) {
	m.note(fmt.Errorf(`%s: %s is %s here and %s at %s: make them equal, or let the later one win with the strategy "replace"`,
		b.Where(), m.where(), short(b), short(a), a.Where()))
}

func (m *merger) ambiguous(a, b *Term) {
	m.path = append(m.path, short(&b.Items[0]))
	m.note(fmt.Errorf(`%s: %s is here and at %s, in one of the two lists more than once: there must be one of each, unless the strategy is "replace" or "original"`,
		b.Where(), m.where(), a.Where()))
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
	if len(t.Items) > 8 {
		return t.describe()
	}
	text := FormatLine(t)
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most]) + "…"
	}
	return text
}
