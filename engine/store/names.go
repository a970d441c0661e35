package store

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/zeebo/blake3"
)

// escapeName makes a file name of at most limit+13 bytes out of a label or
// any other text, different ones for different texts, and safe to paste into
// a shell. What is too long is cut and ends in "~" and a hash of the whole.
//
//	//examples/web.star:step (image)   examples+web.star:step~{image}
//	@b9//lib:x                         =@b9++lib:x
func escapeName(name string, limit int) string {
	text := encodeName(name)
	if len(text) <= limit+13 {
		return text
	}
	sum := blake3.Sum256([]byte(name))
	return cutName(text, limit) + "~" + hex.EncodeToString(sum[:6])
}

// encodeName drops a leading "//" and puts "=" before what has none. The
// characters "/ ()" become "+~{}"; letters, digits and "-_=@:." stay, but for
// a leading "." or "="; every other byte becomes %XX.
func encodeName(name string) string {
	rest, ok := strings.CutPrefix(name, "//")
	if !ok {
		return string(appendName([]byte{'='}, rest))
	}
	if rest == "" {
		return "%"
	}
	return string(appendName(nil, rest))
}

// swapped maps what a label holds to what a file name should.
const (
	swappedFrom = "/ ()"
	swappedTo   = "+~{}"
)

func appendName(b []byte, text string) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		i := strings.IndexRune(swappedFrom, r)
		switch first := len(b) == 0; {
		case n == 1 && i >= 0:
			b = append(b, swappedTo[i])
		case plainRune(r, n) && !(first && (r == '.' || r == '=')):
			b = append(b, text[:n]...)
		default:
			for _, c := range []byte(text[:n]) {
				b = fmt.Appendf(b, "%%%02X", c)
			}
		}
		text = text[n:]
	}
	return b
}

// plainRune reports whether the rune, n bytes long, stays as it is.
func plainRune(r rune, n int) bool {
	if r == utf8.RuneError && n == 1 {
		return false
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_=@:.", r)
}

// cutName returns at most the first n bytes, and no half of a character or
// an escape.
func cutName(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	if i := strings.LastIndexByte(text[:n], '%'); i >= 0 && i >= n-2 {
		n = i
	}
	return text[:n]
}

// unescapeName is the inverse of escapeName for names that were not cut; one
// that was still leads to the same file. What escapeName did not make is
// returned somehow.
func unescapeName(name string) string {
	if name == "%" {
		return "//"
	}
	text, plain := strings.CutPrefix(name, "=")
	for i := range swappedTo {
		text = strings.ReplaceAll(text, swappedTo[i:i+1], swappedFrom[i:i+1])
	}
	if whole, err := url.PathUnescape(text); err == nil {
		text = whole
	}
	if plain {
		return text
	}
	return "//" + text
}
