// Package charset tells text from what is none: every text that b9 reads is
// UTF-8, without NUL bytes and without a byte-order mark. What breaks that rule
// is refused with its place, because the parsers behind would end at it, drop
// it or put another character there without a word.
//
//	Check   the mistake of a text, as an error with its position
//	Find    the same as an offset and a sentence, for a parser that has its own errors
package charset

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
)

// Check returns a *position.Error where the text is no plain UTF-8, nil where it
// is. The file's name begins its position.
func Check(file, text string) error {
	at, problem := Find(text)
	if problem == "" {
		return nil
	}
	c := position.NewCursor(file, text)
	return c.Position(at).Errorf("%s", problem)
}

// Find returns the offset of the first byte that is not allowed in a text, and
// what is wrong with it; the problem is "" where nothing is.
func Find(text string) (at int, problem string) {
	switch {
	case strings.HasPrefix(text, "\ufeff"):
		return 0, "a byte-order mark (U+FEFF) begins the text: save it as UTF-8 without one"
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return 0, "a byte-order mark of UTF-16 begins the text: save it as UTF-8 without one"
	}
	null := strings.IndexByte(text, 0)
	if utf8.ValidString(text[:length(text, null)]) {
		if null < 0 {
			return 0, ""
		}
		return null, "a NUL byte can't be part of a text: is this a file of another kind, or one in UTF-16?"
	}
	at = invalid(text)
	return at, fmt.Sprintf("the byte 0x%02X is not UTF-8 (in Latin-1 it is %q): save the text as UTF-8", text[at], string(rune(text[at])))
}

// length is how much of a text comes before the offset, all where it is negative.
func length(text string, offset int) int {
	if offset < 0 {
		return len(text)
	}
	return offset
}

// invalid is the offset of the first byte that is not UTF-8, in a text that has one.
func invalid(text string) int {
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	return at
}
