package secret

import (
	"bytes"
	"slices"
)

// Set finds any of several texts. It may be used by several goroutines.
//
// The algorithm is that of Wu and Manber ("A fast algorithm for multi-pattern
// searching", 1994). A window of the shortest text's length moves over the bytes.
// The last two bytes in it say how far it may move before any text could begin in
// it: as far as they stand from the end of the window in the text where they stand
// furthest right, and in most places that is nearly its whole length. Where they end
// the first part of a text, the texts of which that is so are compared. The table of
// moves is small enough for a processor's first cache: several pairs of bytes share a
// place, and the shortest move of theirs counts.
type Set struct {
	words []word // no two alike, the longest first
	least int    // length of the shortest text
	most  int    // length of the longest
	shift [places]uint8
	ends  [places][]int // words by the last two bytes of their first least bytes
	heads [256][]int    // words by their first byte
}

// places is the length of the table of moves.
const places = 1 << 12

// Searching returns a set that finds where a value is as a whole. Values are those
// that [Origin.Read] returns; none makes a set that finds nothing.
func Searching(values []Text) *Set {
	var words []word
	for _, v := range values {
		words = append(words, searchWords(v)...)
	}
	return newSet(words)
}

// Masking returns a set that finds what is to be masked of values: the lines of each,
// too. Of other texts, which may be shorter, those count that have four bytes.
func Masking(values []Text, others [][]byte) *Set {
	var words []word
	for _, v := range values {
		words = append(words, maskWords(v)...)
	}
	for _, text := range others {
		if len(text) >= leastOther {
			words = append(words, word{text: text})
		}
	}
	return newSet(words)
}

const leastOther = 4

func newSet(words []word) *Set {
	slices.SortStableFunc(words, func(a, b word) int { return len(b.text) - len(a.text) })
	s := &Set{}
	known := map[string]bool{}
	for _, w := range words {
		if !known[string(w.text)] {
			known[string(w.text)] = true
			s.words = append(s.words, w)
		}
	}
	if len(s.words) == 0 {
		return s
	}
	s.most, s.least = len(s.words[0].text), min(len(s.words[len(s.words)-1].text), 1<<8)
	for i := range s.shift {
		s.shift[i] = uint8(s.least - 1)
	}
	for i, w := range s.words {
		for j := 2; j <= s.least; j++ {
			at := place(w.text, j)
			s.shift[at] = min(s.shift[at], uint8(s.least-j))
		}
		at := place(w.text, s.least)
		s.ends[at] = append(s.ends[at], i)
		s.heads[w.text[0]] = append(s.heads[w.text[0]], i)
	}
	return s
}

// place is that of the two bytes before end.
func place(text []byte, end int) uint {
	return (uint(text[end-2])<<4 ^ uint(text[end-1])) % places
}

// Empty reports whether there is nothing to be found.
func (s *Set) Empty() bool { return len(s.words) == 0 }

// find returns where in text, at or after from, the first of the texts begins, and
// the longest that begins there; -1 for none.
func (s *Set) find(text []byte, from int) (int, *word) {
	if s.Empty() {
		return -1, nil
	}
	for end := from + s.least; end <= len(text); {
		at := place(text, end)
		if skip := s.shift[at]; skip > 0 {
			end += int(skip)
			continue
		}
		for _, i := range s.ends[at] {
			if bytes.HasPrefix(text[end-s.least:], s.words[i].text) {
				return end - s.least, &s.words[i]
			}
		}
		end++
	}
	return -1, nil
}

// open returns where the first end of text begins that may be the beginning of one
// of the texts; its length where none may.
func (s *Set) open(text []byte) int {
	for at := max(0, len(text)-s.most+1); at < len(text); at++ {
		for _, i := range s.heads[text[at]] {
			if w := s.words[i].text; len(w) > len(text)-at && bytes.HasPrefix(w, text[at:]) {
				return at
			}
		}
	}
	return len(text)
}

// Masked returns text with *** in place of what the set finds.
func (s *Set) Masked(text string) string {
	var b bytes.Buffer
	m := NewMasker(s, &b)
	_, _ = m.Write([]byte(text)) // a buffer takes everything
	_ = m.Flush()
	return b.String()
}
