package yaml

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// wordCharacters are those of the names of anchors, handles and directives.
const wordCharacters = letters + "0123456789-_"

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
	n := s.span(0, wordCharacters)
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
		n += s.span(1, wordCharacters)
		if s.char(n) != '!' {
			s.fail(s.at, `a tag's handle is !, !! or a word between two !`)
			return ""
		}
		n++
	}
	return s.read(n)
}

// uri scans the rest of a tag.
func (s *scanner) uri() string {
	var b strings.Builder
	for s.err == nil {
		b.WriteString(s.read(s.span(0, wordCharacters+";/?:@&=+$,.!~*'()[]")))
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
		digits := s.text[s.pos+1 : min(s.pos+3, len(s.text))]
		code, err := strconv.ParseUint(digits, 16, 8)
		if err != nil || len(digits) < 2 {
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

// directive scans a line such as "%YAML 1.1" or "%TAG !e! tag:x,2000:". The
// token of a %TAG has a handle; text of the others is YAML or something unknown,
// which is ignored.
func (s *scanner) directive() {
	t := token{kind: tokDirective, at: s.at}
	s.skip(1)
	n := s.span(0, wordCharacters)
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
		s.line()
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

func (s *scanner) digits() string { return s.read(s.span(0, "0123456789")) }

// tagDirective scans the handle of %TAG and what it stands for.
func (s *scanner) tagDirective() (handle, prefix string) {
	if s.char(0) == '!' {
		handle = s.tagHandle()
	}
	if handle == "" || s.char(0) != ' ' {
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
