package display

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// style is how a segment is drawn on a terminal.
type style string

// The styles: parameters of the SGR control function (ECMA-48, 8.3.117).
const (
	plain style = ""
	bold  style = "1"
	faint style = "2"
	red   style = "1;31"
	green style = "32"
)

// segment is a piece of a line in one style.
type segment struct {
	style style
	text  string
}

// render makes one line of text of the segments. Nothing in them reaches the
// terminal as a control function.
func render(line []segment, color bool) string {
	var b strings.Builder
	for _, s := range line {
		text := Clean(s.text)
		if color && s.style != plain && text != "" {
			text = "\x1b[" + string(s.style) + "m" + text + "\x1b[0m"
		}
		b.WriteString(text)
	}
	return b.String()
}

// fit cuts the line off after cols columns, and returns how many it fills.
func fit(line []segment, cols int) ([]segment, int) {
	var out []segment
	used := 0
	for _, s := range line {
		text, n := cut(Clean(s.text), cols-used)
		out = append(out, segment{s.style, text})
		used += n
	}
	return out, used
}

// cut returns the start of s that fits into cols columns, and its width.
func cut(s string, cols int) (string, int) {
	used := 0
	for i, r := range s {
		w := runeWidth(r)
		if used+w > cols {
			return s[:i], used
		}
		used += w
	}
	return s, used
}

// shorten cuts the middle out of a text that is wider than cols.
func shorten(s string, cols int) string {
	runes := []rune(s)
	if len(runes) <= cols || cols < 8 {
		return s
	}
	head := (cols - 3) / 2
	tail := cols - 3 - head
	return string(runes[:head]) + "..." + string(runes[len(runes)-tail:])
}

// Clean makes output of an untrusted program safe to show: control functions
// (ECMA-48) with what belongs to them, and other control characters are
// dropped, what is no UTF-8 becomes U+FFFD. Of a line that overwrites itself
// by carriage returns, the last version is shown.
func Clean(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\x1b' || r == '\u009b':
			n = len(controlFunction().FindString(s))
		case r == '\r' || r == '\n':
			if strings.Trim(s[n:], "\r\n") != "" {
				b.Reset()
			}
		case r == '\t':
			b.WriteString(strings.Repeat(" ", 8-b.Len()%8))
		case visible(r):
			b.WriteRune(r)
		}
		s = s[n:]
	}
	return b.String()
}

// isClean is the quick way out for most lines.
func isClean(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// visible reports whether a character may be shown: not one that controls the
// terminal, the direction of the text, or how its neighbours are joined.
func visible(r rune) bool {
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}

// controlFunction is one that a terminal obeys (ECMA-48), with what belongs to it: a
// control sequence, a string up to BEL or ST, or another escape sequence. It may end
// too early.
var controlFunction = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:` +
		`(?:\x1b\[|\x{9b})[ -?]*[@-~]?|` +
		`\x1b[\]PX^_][^\a\x1b\x{9c}]*(?:\a|\x1b\\|\x{9c})?|` +
		`\x1b[ -/]*[0-~]?)`)
})

// wide are the characters of two columns, roughly those that Unicode's
// annex 11 calls wide.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x231a, Hi: 0x231b, Stride: 1}, {Lo: 0x23e9, Hi: 0x23f3, Stride: 1},
		{Lo: 0x2614, Hi: 0x2615, Stride: 1}, {Lo: 0x26a1, Hi: 0x26a1, Stride: 1}, {Lo: 0x2705, Hi: 0x2705, Stride: 1},
		{Lo: 0x2728, Hi: 0x2728, Stride: 1}, {Lo: 0x274c, Hi: 0x274c, Stride: 1}, {Lo: 0x2b50, Hi: 0x2b50, Stride: 1},
		{Lo: 0x2e80, Hi: 0x303e, Stride: 1}, {Lo: 0x3041, Hi: 0xa4cf, Stride: 1}, {Lo: 0xa960, Hi: 0xa97c, Stride: 1},
		{Lo: 0xac00, Hi: 0xd7a3, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1},
		{Lo: 0xff00, Hi: 0xff60, Stride: 1}, {Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x16fe0, Hi: 0x1b2ff, Stride: 1}, {Lo: 0x1f1e6, Hi: 0x1faff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}

// runeWidth is the number of columns of a visible character.
func runeWidth(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me):
		return 0
	case unicode.Is(wide, r):
		return 2
	}
	return 1
}

// clock writes a running time as 0:42 or 1:02:03.
func clock(d time.Duration) string {
	s := int(d / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// Took writes how long something lasted, such as "12.3 s" or "2 min 5 s".
func Took(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 0.995:
		return fmt.Sprintf("%.2f s", s)
	case s < 59.95:
		return fmt.Sprintf("%.1f s", s)
	}
	d = d.Round(time.Second)
	if d < time.Hour {
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

// ShellWord quotes s for a shell when it needs to be.
func ShellWord(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(unquoted, r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

const unquoted = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:._-+=@%,"
