package content

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"b9/engine/position"
)

// ErlStrategy says what becomes of two values for one key that can't be merged.
type ErlStrategy string

// The strategies. All of them merge lists and maps in the way of MergeErl.
const (
	ErlStrict   ErlStrategy = "strict"   // equal values are one; others are an error that names both places
	ErlReplace  ErlStrategy = "replace"  // the later value wins
	ErlOriginal ErlStrategy = "original" // a list of both; a list and a value: the list with the value
)

// ErlStrategies lists the strategies, the default first.
func ErlStrategies() []string {
	return []string{string(ErlStrict), string(ErlReplace), string(ErlOriginal)}
}

// MergeErl merges documents, each the terms of a text, into one.
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
func MergeErl(docs [][]ErlTerm, strategy ErlStrategy) ([]ErlTerm, error) {
	if !slices.Contains(ErlStrategies(), string(strategy)) {
		return nil, fmt.Errorf("unknown strategy %q (have %s)", strategy, strings.Join(ErlStrategies(), ", "))
	}
	docs = slices.DeleteFunc(slices.Clone(docs), func(d []ErlTerm) bool { return len(d) == 0 })
	if len(docs) == 0 {
		return nil, nil
	}
	m := erlMerger{strategy: strategy}
	first, whole := erlWhole(docs[0])
	for _, d := range docs[1:] {
		next, alike := erlWhole(d)
		if alike != whole {
			return nil, fmt.Errorf("%s: a list or map can't be merged with a text of several terms, which begins at %s: make both the one or the other",
				pick(whole, &docs[0][0], &d[0]).Place(), pick(whole, &d[0], &docs[0][0]).Place())
		}
		first = m.merge(&first, &next)
	}
	if len(m.errs) > 0 {
		return nil, errors.Join(m.errs...)
	}
	if whole {
		return []ErlTerm{first}, nil
	}
	return first.Items, nil
}

func pick(first bool, a, b *ErlTerm) *ErlTerm {
	if first {
		return a
	}
	return b
}

// erlWhole is the list or map that is the only term of a document; or a list of its terms.
func erlWhole(d []ErlTerm) (t ErlTerm, whole bool) {
	if len(d) == 1 && (d[0].Kind == ErlMap || d[0].isList()) {
		return d[0], true
	}
	return ErlTerm{Kind: ErlList, Items: d}, false
}

// isList reports whether the term is merged as a list. The empty string is
// the empty list.
func (t *ErlTerm) isList() bool {
	return t.Kind == ErlList && !t.Improper || t.Kind == ErlString && t.Text == ""
}

// isProperty reports whether the term is a tuple {Key, Value}.
func (t *ErlTerm) isProperty() bool { return t.Kind == ErlTuple && len(t.Items) == 2 }

type erlMerger struct {
	strategy ErlStrategy
	path     []string // keys that lead to the values being merged
	errs     []error
}

func (m *erlMerger) merge(a, b *ErlTerm) ErlTerm {
	switch {
	case a.Kind == ErlMap && b.Kind == ErlMap:
		return m.maps(a, b)
	case a.isList() && b.isList():
		return m.lists(a, b)
	case m.strategy == ErlReplace:
		return *b
	case m.strategy == ErlStrict:
		if !a.Equal(b) {
			m.conflict(a, b)
		}
		return *a
	case a.isList():
		return ErlTerm{Kind: ErlList, off: a.off, doc: a.doc, Items: append(slices.Clip(a.Items), *b)}
	case b.isList():
		return ErlTerm{Kind: ErlList, off: b.off, doc: b.doc, Items: append([]ErlTerm{*a}, b.Items...)}
	}
	return ErlTerm{Kind: ErlList, off: a.off, doc: a.doc, Items: []ErlTerm{*a, *b}}
}

// mergeAt merges the values of a key.
func (m *erlMerger) mergeAt(key, a, b *ErlTerm) ErlTerm {
	m.path = append(m.path, shortErl(key))
	v := m.merge(a, b)
	m.path = m.path[:len(m.path)-1]
	return v
}

// lists merges property lists.
func (m *erlMerger) lists(a, b *ErlTerm) ErlTerm {
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
			out[first[0]].Items = []ErlTerm{old.Items[0], value}
			continue
		case len(first) > 0 && m.strategy == ErlStrict && i == second[0]:
			m.ambiguous(&a.Items[first[0]], e)
		case len(first) > 0 && m.strategy == ErlReplace:
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
	return ErlTerm{Kind: ErlList, off: a.off, doc: a.doc, Items: kept}
}

// properties finds the tuples of each key.
func properties(items []ErlTerm) map[string][]int {
	at := map[string][]int{}
	for i := range items {
		if items[i].isProperty() {
			key := items[i].Items[0].key()
			at[key] = append(at[key], i)
		}
	}
	return at
}

func (m *erlMerger) maps(a, b *ErlTerm) ErlTerm {
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
	return ErlTerm{Kind: ErlMap, off: a.off, doc: a.doc, Items: out}
}

func (m *erlMerger) conflict(a, b *ErlTerm) {
	m.note(fmt.Errorf(`%s: %s is %s here and %s at %s: make them equal, or let the later one win with the strategy "replace"`,
		b.Place(), m.where(), shortErl(b), shortErl(a), a.Place()))
}

func (m *erlMerger) ambiguous(a, b *ErlTerm) {
	m.path = append(m.path, shortErl(&b.Items[0]))
	m.note(fmt.Errorf(`%s: %s is here and at %s, in one of the two lists more than once: there must be one of each, unless the strategy is "replace" or "original"`,
		b.Place(), m.where(), a.Place()))
	m.path = m.path[:len(m.path)-1]
}

// where is the path to the values, such as kernel.logger_level.
func (m *erlMerger) where() string {
	if len(m.path) == 0 {
		return "the term"
	}
	return strings.Join(m.path, ".")
}

func (m *erlMerger) note(err error) {
	if len(m.errs) < position.MaxErrors {
		m.errs = append(m.errs, err)
	}
}

// shortErl shows a term in a message.
func shortErl(t *ErlTerm) string {
	const most = 40
	if len(t.Items) > 8 {
		return t.describe()
	}
	text := FormatErlLine(t)
	if utf8.RuneCountInString(text) > most {
		return string([]rune(text)[:most]) + "…"
	}
	return text
}
