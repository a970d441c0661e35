package lsp

import "strings"

// cursor is what is around a place in a file that need not be complete.
type cursor struct {
	inText bool   // in a string
	text   string // that string's beginning, up to the place
	rest   string // and what follows, up to its end
	typed  string // the beginning of a name, outside of strings
	calls  []call // that are open, the innermost last
	named  string // the argument's name, where it has one
	dotted bool   // a dot stands before the name
}

// call is a call whose closing parenthesis comes after the place.
type call struct {
	function string // "" for other brackets
	args     int    // that end before the place
	first    string // the first argument, where that is a string
}

// scan is the state of the reading of a file from its beginning.
type scan struct {
	src   string
	i     int
	calls []call
	named string // the name before the last "=" in this argument
	text  string // the last string
}

// cursorAt reads a file up to an offset: strings, comments, and brackets.
func cursorAt(src string, offset int) cursor {
	s := scan{src: src}
	for s.i < offset {
		c := src[s.i]
		switch {
		case c == '#':
			end := strings.IndexByte(src[s.i:], '\n')
			if end < 0 || s.i+end >= offset {
				return cursor{inText: true} // a comment completes nothing
			}
			s.i += end + 1
		case c == '"' || c == '\'':
			start, end := s.quoted()
			if offset <= end {
				start = min(start, offset)
				return cursor{inText: true, text: src[start:offset], rest: src[offset:end], calls: s.calls, named: s.named}
			}
			s.text = src[start:end]
			s.note()
		default:
			s.step(c)
		}
	}
	start := offset
	for start > 0 && isName(src[start-1]) {
		start--
	}
	return cursor{typed: src[start:offset], calls: s.calls, named: s.named, dotted: start > 0 && src[start-1] == '.'}
}

// quoted moves past a string, and returns where its content begins and ends.
func (s *scan) quoted() (start, end int) {
	quote := s.src[s.i : s.i+1]
	raw := s.i > 0 && (s.src[s.i-1] == 'r' || s.src[s.i-1] == 'R')
	if strings.HasPrefix(s.src[s.i:], strings.Repeat(quote, 3)) {
		quote = strings.Repeat(quote, 3)
	}
	start = s.i + len(quote)
	for s.i = start; s.i < len(s.src); s.i++ {
		switch {
		case strings.HasPrefix(s.src[s.i:], quote):
			end = s.i
			s.i += len(quote)
			return start, end
		case s.src[s.i] == '\\' && !raw:
			s.i++
		case s.src[s.i] == '\n' && len(quote) == 1:
			return start, s.i
		}
	}
	s.i = len(s.src)
	return min(start, len(s.src)), len(s.src)
}

// step moves past one byte outside of strings.
func (s *scan) step(c byte) {
	switch c {
	case '(', '[', '{':
		before := strings.TrimRight(s.src[:s.i], " \t")
		start := len(before)
		for start > 0 && isName(before[start-1]) {
			start--
		}
		open := call{}
		if c == '(' {
			open.function = before[start:]
		}
		s.calls, s.named = append(s.calls[:len(s.calls):len(s.calls)], open), ""
	case ')', ']', '}':
		if len(s.calls) > 0 {
			s.calls = s.calls[:len(s.calls)-1]
		}
		s.named = ""
	case ',':
		s.named = ""
		if n := len(s.calls); n > 0 {
			s.calls[n-1].args++
		}
	case '=':
		before := strings.TrimRight(s.src[:s.i], " \t")
		start := len(before)
		for start > 0 && isName(before[start-1]) {
			start--
		}
		s.named = before[start:]
	}
	s.i++
}

// note keeps the first argument of a call.
func (s *scan) note() {
	if n := len(s.calls); n > 0 && s.calls[n-1].args == 0 && s.named == "" {
		s.calls[n-1].first = s.text
	}
}

// call is the innermost call that is open, looking through lists and dicts.
func (c *cursor) call() call {
	for i := len(c.calls) - 1; i >= 0; i-- {
		if c.calls[i].function != "" {
			return c.calls[i]
		}
	}
	return call{}
}
