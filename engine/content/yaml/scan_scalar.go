package yaml

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// plainBegins reports whether c begins a scalar without quotes.
func (s *scanner) plainBegins(c byte) bool {
	if strings.IndexByte("-?:,[]{}#&*!|>'\"%@`\t", c) < 0 {
		return true
	}
	return !s.blankAt(1) && (c == '-' || s.flow == 0 && (c == '?' || c == ':'))
}

// plain scans a scalar without quotes, which may go on in further lines.
func (s *scanner) plain() {
	t := token{kind: tokScalar, at: s.at}
	indent := s.indent + 1
	spaces := ""
	var b strings.Builder // used if there is more than one word
	for n := s.plainLength(); n > 0; n = s.plainLength() {
		s.keyHere = false
		word := s.read(n)
		if t.text == "" {
			t.text = word
		} else {
			if b.Len() == 0 {
				b.WriteString(t.text)
			}
			b.WriteString(spaces)
			b.WriteString(word)
		}
		if spaces = s.plainSpaces(); spaces == "" || s.char(0) == '#' || s.flow == 0 && s.at.col < indent {
			break
		}
	}
	if b.Len() > 0 {
		t.text = b.String()
	}
	s.tokens = append(s.tokens, t)
}

// plainLength is the number of bytes up to what ends or interrupts a plain scalar.
func (s *scanner) plainLength() int {
	if s.char(0) == '#' {
		return 0
	}
	for n := 0; ; n++ {
		c := s.char(n)
		switch {
		case s.blankAt(n):
			return n
		case c == ':' && (s.blankAt(n+1) || s.flow > 0 && strings.IndexByte(",[]{}", s.char(n+1)) >= 0):
			return n
		case s.flow > 0 && strings.IndexByte(",?[]{}", c) >= 0:
			return n
		}
	}
}

// plainSpaces consumes the space between two words of a plain scalar and
// returns what it means; "" if the scalar ends there.
func (s *scanner) plainSpaces() string {
	spaces := s.read(s.span(0, " "))
	if s.breakAt(0) == 0 {
		return spaces
	}
	first := s.skipBreak()
	s.keyHere = true
	more := s.breaks(s.skipSpaces)
	if s.documentEnds() {
		return ""
	}
	return foldedBreak(first, more)
}

// foldedBreak is what a line break and the empty lines behind it mean where
// lines are folded.
func foldedBreak(first, more string) string {
	switch {
	case first != "\n":
		return first + more
	case more == "":
		return " "
	}
	return more
}

// quoted scans a scalar in quotes.
func (s *scanner) quoted(quote byte) {
	t := token{kind: tokScalar, at: s.at, quoted: true}
	s.skip(1)
	n := strings.IndexAny(s.text[s.pos:], "'\"\\\r\n\u0085\u2028\u2029")
	if n >= 0 && s.char(n) == quote && s.char(n+1) != '\'' {
		t.text = s.text[s.pos : s.pos+n]
		s.skip(n + 1)
		s.tokens = append(s.tokens, t)
		return
	}
	var b strings.Builder
	for s.quotedWord(&b, quote, t.at); s.char(0) != quote && s.err == nil; s.quotedWord(&b, quote, t.at) {
		s.quotedSpaces(&b, t.at)
	}
	if s.err != nil {
		return
	}
	s.skip(1)
	t.text = b.String()
	s.tokens = append(s.tokens, t)
}

// quotedWord scans up to space or the closing quote.
func (s *scanner) quotedWord(b *strings.Builder, quote byte, start mark) {
	for s.err == nil {
		n := 0
		for c := s.char(0); !s.blankAt(n) && c != '\'' && c != '"' && c != '\\'; c = s.char(n) {
			n++
		}
		b.WriteString(s.read(n))
		switch c := s.char(0); {
		case quote == '\'' && c == '\'' && s.char(1) == '\'':
			b.WriteByte('\'')
			s.skip(2)
		case quote == '"' && c == '\\':
			s.escape(b, start)
		case c != quote && (c == '\'' || c == '"' || c == '\\'):
			b.WriteByte(c)
			s.skip(1)
		default:
			return
		}
	}
}

// quotedSpaces scans the space between two words in quotes.
func (s *scanner) quotedSpaces(b *strings.Builder, start mark) {
	spaces := s.read(s.span(0, " \t"))
	switch {
	case s.pos == len(s.text):
		s.fail(start, "the text has no closing quote")
	case s.breakAt(0) > 0:
		first := s.skipBreak()
		b.WriteString(foldedBreak(first, s.quotedBreaks(start)))
	default:
		b.WriteString(spaces)
	}
}

// quotedBreaks consumes empty lines in quotes and the space that the next line
// begins with.
func (s *scanner) quotedBreaks(start mark) string {
	breaks := s.breaks(func() { s.skip(s.span(0, " \t")) })
	if s.documentEnds() {
		s.fail(start, "the text has no closing quote before the document ends")
	}
	return breaks
}

// escape scans what a backslash in double quotes begins.
func (s *scanner) escape(b *strings.Builder, start mark) {
	at := s.at
	s.skip(1)
	if s.breakAt(0) > 0 {
		s.skipBreak()
		b.WriteString(s.quotedBreaks(start))
		return
	}
	c := s.char(0)
	if i := strings.IndexByte("0abt\tnvfre \"\\/N_LP", c); i >= 0 && c != 0 {
		b.WriteRune([]rune("\x00\a\b\t\t\n\v\f\r\x1b \"\\/\u0085\u00a0\u2028\u2029")[i])
		s.skip(1)
		return
	}
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
	if n == 0 {
		s.fail(at, `unknown escape: write \\ for a backslash, or use single quotes`)
		return
	}
	s.skip(1)
	digits := s.text[s.pos:min(s.pos+n, len(s.text))]
	code, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || len(digits) < n {
		s.fail(at, `\%c wants %d hexadecimal digits behind it`, c, n)
		return
	}
	if code > utf8.MaxRune || !utf8.ValidRune(rune(code)) {
		s.fail(at, `\%c%s is no character`, c, digits)
		return
	}
	b.WriteRune(rune(code))
	s.skip(n)
}

// block scans a literal or folded block.
func (s *scanner) block(folded bool) {
	t := token{kind: tokScalar, at: s.at, quoted: true}
	s.skip(1)
	chomp, increment := s.blockHeader()
	if s.restOfLine("the header of a block"); s.err != nil {
		return
	}
	indent := max(1, s.indent+1)
	breaks := ""
	if increment > 0 {
		indent += increment - 1
		breaks = s.blockBreaks(indent)
	} else {
		var deepest int
		breaks, deepest = s.blockIndent()
		indent = max(indent, deepest)
	}
	var b strings.Builder
	last := ""
	for s.at.col == indent && s.pos < len(s.text) {
		b.WriteString(breaks)
		indented := isSpace(s.char(0))
		b.WriteString(s.line())
		last = s.skipBreak()
		breaks = s.blockBreaks(indent)
		if s.at.col != indent || s.pos == len(s.text) {
			break
		}
		if !folded || last != "\n" || indented || isSpace(s.char(0)) {
			b.WriteString(last)
		} else if breaks == "" {
			b.WriteByte(' ')
		}
	}
	if chomp != '-' {
		b.WriteString(last)
	}
	if chomp == '+' {
		b.WriteString(breaks)
	}
	t.text = b.String()
	s.tokens = append(s.tokens, t)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// blockHeader reads the chomping and the indentation behind | or >, in either order.
func (s *scanner) blockHeader() (chomp byte, increment int) {
	for range 2 {
		switch c := s.char(0); {
		case chomp == 0 && (c == '+' || c == '-'):
			chomp = c
			s.skip(1)
		case increment == 0 && c >= '1' && c <= '9':
			increment = int(c - '0')
			s.skip(1)
		}
	}
	if !s.lineEndAt(0) && s.char(0) != ' ' {
		s.fail(s.at, "%q in the header of a block: only + or - and a digit from 1 to 9 can stand there", s.text[s.pos:s.pos+1])
	}
	return chomp, increment
}

// restOfLine consumes a comment and the end of the line.
func (s *scanner) restOfLine(behind string) {
	s.skipComment()
	if !s.lineEndAt(0) {
		s.fail(s.at, "there is more in the line behind %s", behind)
	}
	s.skipBreak()
}

// blockIndent consumes empty lines up to the first line of a block and finds
// how deep the deepest of all of them is indented.
func (s *scanner) blockIndent() (breaks string, deepest int) {
	breaks = s.breaks(func() {
		s.skipSpaces()
		deepest = max(deepest, s.at.col)
	})
	return breaks, deepest
}

// blockBreaks consumes empty lines and indentation in a block.
func (s *scanner) blockBreaks(indent int) string {
	return s.breaks(func() { s.skip(min(s.span(0, " "), max(0, indent-s.at.col))) })
}
