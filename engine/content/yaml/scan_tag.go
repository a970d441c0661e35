package yaml

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// wordLength is how many letters, digits, - and _ there are from n on.
func (s *scanner) wordLength(n int) int {
	from := n
	for isWord(s.char(n)) {
		n++
	}
	return n - from
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' || c == '_'
}

// property scans an alias, an anchor or a tag.
func (s *scanner) property(c byte) {
	t := token{at: s.at}
	if c == '!' {
		t.kind = tokTag
		t.handle, t.text = s.tag()
		if !s.lineEndAt(0) && s.char(0) != ' ' {
			s.fail(s.at, "a tag must have a space or a line end behind it")
		}
		s.tokens = append(s.tokens, t)
		return
	}
	t.kind = tokAnchor
	if c == '*' {
		t.kind = tokAlias
	}
	s.skip(1)
	n := s.wordLength(0)
	if t.text = s.text[s.pos : s.pos+n]; n == 0 {
		s.fail(t.at, "%s wants a name of letters, digits, - and _: put the text in quotes if it is none", t.kind)
		return
	}
	if !s.blankAt(n) && strings.IndexByte("?:,]}%@`", s.char(n)) < 0 {
		s.fail(t.at, "the name of %s can only have letters, digits, - and _: put the text in quotes if it is none", t.kind)
		return
	}
	s.skip(n)
	s.tokens = append(s.tokens, t)
}

// tag scans !suffix, !handle!suffix, !<verbatim> or a ! alone.
func (s *scanner) tag() (handle, suffix string) {
	switch {
	case s.char(1) == '<':
		s.skip(2)
		suffix = s.uri()
		if s.char(0) != '>' {
			s.fail(s.at, `a tag that begins with "!<" must end with ">"`)
			return "", ""
		}
		s.skip(1)
		return "", suffix
	case s.blankAt(1):
		s.skip(1)
		return "", "!"
	}
	handle = "!"
	if s.tagHasHandle() {
		handle = s.tagHandle()
	} else {
		s.skip(1)
	}
	return handle, s.uri()
}

// tagHasHandle reports whether a second ! follows in the same word.
func (s *scanner) tagHasHandle() bool {
	for n := 1; !s.lineEndAt(n) && s.char(n) != ' '; n++ {
		if s.char(n) == '!' {
			return true
		}
	}
	return false
}

// tagHandle scans !, !! or !word!.
func (s *scanner) tagHandle() string {
	n := 1
	if s.char(1) != ' ' {
		n += s.wordLength(1)
		if s.char(n) != '!' {
			s.fail(s.at, `a tag's handle is !, !! or a word between two !`)
			return ""
		}
		n++
	}
	handle := s.text[s.pos : s.pos+n]
	s.skip(n)
	return handle
}

// uri scans the rest of a tag.
func (s *scanner) uri() string {
	var b strings.Builder
	for s.err == nil {
		n := 0
		for c := s.char(0); isWord(c) || c != 0 && strings.IndexByte(";/?:@&=+$,.!~*'()[]", c) >= 0; c = s.char(n) {
			n++
		}
		b.WriteString(s.text[s.pos : s.pos+n])
		s.skip(n)
		if s.char(0) != '%' {
			break
		}
		b.WriteString(s.uriEscapes())
	}
	if b.Len() == 0 {
		s.fail(s.at, "a tag has no name")
	}
	return b.String()
}

// uriEscapes scans %xx of a tag, as many as there are.
func (s *scanner) uriEscapes() string {
	at := s.at
	var b []byte
	for s.char(0) == '%' {
		code, err := strconv.ParseUint(s.text[s.pos+1:min(s.pos+3, len(s.text))], 16, 8)
		if err != nil || !isHex(s.char(1)) || !isHex(s.char(2)) {
			s.fail(s.at, "a %% in a tag wants two hexadecimal digits behind it")
			return ""
		}
		b = append(b, byte(code))
		s.skip(3)
	}
	if !utf8.Valid(b) {
		s.fail(at, "the escapes of a tag are not UTF-8")
	}
	return string(b)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'F' || c >= 'a' && c <= 'f'
}

// directive scans a line such as "%YAML 1.1" or "%TAG !e! tag:x,2000:". The
// token of a %TAG has a handle; text of the others is YAML or something unknown,
// which is ignored.
func (s *scanner) directive() {
	t := token{kind: tokDirective, at: s.at}
	s.skip(1)
	n := s.wordLength(0)
	if t.text = s.text[s.pos : s.pos+n]; n == 0 || !s.lineEndAt(n) && s.char(n) != ' ' {
		s.fail(t.at, "%% at the beginning of a line begins a directive, and this is none: put the text in quotes")
		return
	}
	s.skip(n)
	switch t.text {
	case "YAML":
		s.skipSpaces()
		s.version(t.at)
	case "TAG":
		s.skipSpaces()
		t.handle, t.text = s.tagDirective()
	default:
		s.skipLine()
	}
	s.restOfLine("a directive")
	s.tokens = append(s.tokens, t)
}

// version scans the number of a %YAML directive. Every 1.x is read as 1.1.
func (s *scanner) version(start mark) {
	major := s.digits()
	minor := ""
	if s.char(0) == '.' {
		s.skip(1)
		minor = s.digits()
	}
	switch {
	case major == "" || minor == "" || !s.lineEndAt(0) && s.char(0) != ' ':
		s.fail(start, "%%YAML wants a version such as 1.1")
	case strings.TrimLeft(major, "0") != "1":
		s.fail(start, "YAML %.20s.%.20s is unknown: only 1.1 and the like can be read", major, minor)
	}
}

func (s *scanner) digits() string {
	n := 0
	for c := s.char(0); c >= '0' && c <= '9'; c = s.char(n) {
		n++
	}
	digits := s.text[s.pos : s.pos+n]
	s.skip(n)
	return digits
}

// tagDirective scans the handle of %TAG and what it stands for.
func (s *scanner) tagDirective() (handle, prefix string) {
	if s.char(0) != '!' {
		s.fail(s.at, "%%TAG wants a handle such as !e! and what it stands for")
		return "", ""
	}
	handle = s.tagHandle()
	if s.char(0) != ' ' {
		s.fail(s.at, "%%TAG wants a handle such as !e! and what it stands for")
		return "", ""
	}
	s.skipSpaces()
	prefix = s.uri()
	if !s.lineEndAt(0) && s.char(0) != ' ' {
		s.fail(s.at, "%%TAG has more behind it than a handle and what it stands for")
	}
	return handle, prefix
}
