package erlang

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/content/template"
)

// dollar reads a character, or a variable and the strings beside it.
func (p *parser) dollar() bool {
	if p.variableName() != "" {
		return p.strings()
	}
	at := p.pos
	p.pos++
	if p.pos == len(p.text) {
		return p.unexpected("a character")
	}
	r, n := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += n
	if r == '\\' {
		var ok bool
		if r, ok = p.escape(); !ok {
			return false
		}
	}
	return p.push(at, NewInt(formatInt(int64(r))))
}

// variableName is the name of the ${name} that comes next, or "".
func (p *parser) variableName() string {
	rest := p.text[p.pos:]
	if !strings.HasPrefix(rest, "${") {
		return ""
	}
	n := 2
	for n < len(rest) && rest[n] < 0x80 && (n > 2 && rest[n] == '-' || rest[n] != '@' && isNameChar(rest[n:]) == 1) {
		n++
	}
	if n == len(rest) || rest[n] != '}' {
		return ""
	}
	return rest[2:n]
}

// variable reads ${name}.
func (p *parser) variable(name string) (Term, bool) {
	t, ok := p.vars[name]
	if p.options.Used != nil {
		p.options.Used[name] = true
	}
	if !ok {
		return t, p.fail(p.pos, "%s", template.UnknownName(name, slices.Collect(maps.Keys(p.vars))))
	}
	p.pos += len(name) + 3
	return t, true
}

// strings reads a string or variable, and joins those that follow it.
func (p *parser) strings() bool {
	at := p.pos
	var first Term
	var ok bool
	if name := p.variableName(); name != "" {
		if first, ok = p.variable(name); !ok {
			return false
		}
	} else if first.text, ok = p.string(); !ok {
		return false
	} else {
		first.kind = stringTerm
	}
	p.skip()
	if p.peek() != '"' && p.variableName() == "" {
		return p.push(at, first)
	}
	return p.joined(at, first)
}

// joined reads the strings and variables behind the first one.
func (p *parser) joined(at int, first Term) bool {
	var b strings.Builder
	if !p.join(&b, at, first) {
		return false
	}
	for {
		next, ok := Term{kind: stringTerm}, false
		from := p.pos
		if name := p.variableName(); name != "" {
			next, ok = p.variable(name)
		} else if p.peek() == '"' {
			next.text, ok = p.string()
		} else {
			return p.push(at, NewString(b.String()))
		}
		if !ok || !p.join(&b, from, next) {
			return false
		}
		p.skip()
	}
}

func (p *parser) join(b *strings.Builder, at int, t Term) bool {
	if t.kind != stringTerm && t.kind != intTerm && t.kind != floatTerm {
		return p.fail(at, "the variable is %s: only a string or number can be joined with what stands beside it", t.describe())
	}
	b.WriteString(t.text)
	return true
}

// string reads one string.
func (p *parser) string() (string, bool) {
	at := p.pos
	if n := quotes(p.text[p.pos:]); n >= 3 {
		if end := blankLine(p.text[p.pos+n:]); end >= 0 {
			text, ok := p.tripleQuoted(n, n+end+1)
			return p.expand(at, "string", text, ok)
		}
	}
	text, ok := p.quoted('"', '"', true)
	return p.expand(at, "string", text, ok)
}

// expand puts values in the place of the ${name} in a text that was read at an offset,
// as a part of what.
func (p *parser) expand(at int, what, text string, ok bool) (string, bool) {
	if !ok || !p.options.Expand || !strings.Contains(text, "${") {
		return text, ok
	}
	parsed, err := template.Parse("", text, p.options.Keep)
	if err != nil {
		_, reason, _ := strings.Cut(strings.SplitN(err.Error(), "\n", 2)[0], ": ")
		return "", p.fail(at, "in this %s %s", what, reason)
	}
	text, err = parsed.Expand(func(name string) (string, error) {
		if p.options.Used != nil {
			p.options.Used[name] = true
		}
		t, ok := p.vars[name]
		switch {
		case !ok:
			return "", fmt.Errorf("%s (keep = [%q] leaves it as it is)", template.UnknownName(name, slices.Collect(maps.Keys(p.vars))), name)
		case t.kind == stringTerm, t.kind == intTerm, t.kind == floatTerm, t.kind == atomTerm,
			t.kind == binaryTerm && t.bits == 0 && utf8.ValidString(t.text):
			return t.text, nil
		}
		return "", fmt.Errorf("the variable %s is %s: only a string, number or atom can be part of it", name, t.describe())
	})
	if err != nil {
		return "", p.fail(at, "in this %s %v", what, err)
	}
	return text, true
}

// quotes is how many quotes s begins with.
func quotes(s string) int {
	n := 0
	for n < len(s) && s[n] == '"' {
		n++
	}
	return n
}

// blankLine is where the first line of s ends if nothing but blanks is in it, else -1.
func blankLine(s string) int {
	i := strings.IndexByte(s, '\n')
	if i < 0 || strings.Trim(s[:i], " \t\r") != "" {
		return -1
	}
	return i
}

// quotedAtom reads an atom in quotes.
func (p *parser) quotedAtom() bool {
	at := p.pos
	name, ok := p.quoted('\'', '\'', true)
	name, ok = p.expand(at, "atom", name, ok)
	return ok && p.atom(at, name)
}

// quoted reads text up to the closing quote.
func (p *parser) quoted(open, end byte, escapes bool) (string, bool) {
	at := p.pos
	p.pos++
	start := p.pos
	var b []byte
	for p.pos < len(p.text) {
		c := p.text[p.pos]
		switch {
		case c == end && b == nil:
			p.pos++
			return p.text[start : p.pos-1], true
		case c == end:
			b = append(b, p.text[start:p.pos]...)
			p.pos++
			return string(b), true
		case c == '\\' && escapes:
			if b == nil {
				b = make([]byte, 0, 64)
			}
			b = append(b, p.text[start:p.pos]...)
			p.pos++
			r, ok := p.escape()
			if !ok {
				return "", false
			}
			b, start = utf8.AppendRune(b, r), p.pos
		default:
			p.pos++
		}
	}
	return "", p.fail(at, "%q is not closed", open)
}

// escape reads what follows a backslash.
func (p *parser) escape() (rune, bool) {
	if p.pos == len(p.text) {
		return 0, p.unexpected("a character")
	}
	switch c := p.text[p.pos]; {
	case '0' <= c && c <= '7':
		return p.octal(), true
	case c == 'x':
		return p.hexadecimal()
	}
	r, n := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += n
	if r == '^' {
		return p.control()
	}
	if i := strings.IndexRune("bdefnrstv", r); i >= 0 {
		return rune("\b\x7f\x1b\f\n\r \t\v"[i]), true
	}
	return r, true
}

// control reads what follows \^.
func (p *parser) control() (rune, bool) {
	if p.pos == len(p.text) {
		return 0, p.unexpected("a character")
	}
	r, n := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += n
	if r == '\n' {
		return r, true
	}
	return r & 31, true
}

// octal reads up to three digits.
func (p *parser) octal() rune {
	var r rune
	for range 3 {
		c := p.peek()
		if c < '0' || c > '7' {
			break
		}
		r = r*8 + rune(c-'0')
		p.pos++
	}
	return r
}

// hexadecimal reads xHH or x{H...}.
func (p *parser) hexadecimal() (rune, bool) {
	at := p.pos - 1
	p.pos++
	limit, braces := 2, p.peek() == '{'
	if braces {
		p.pos++
		limit = 1 << 20
	}
	var r rune
	n := 0
	for ; n < limit && p.pos < len(p.text) && digitValue(p.text[p.pos]) < 16; n++ {
		r = min(r*16+rune(digitValue(p.text[p.pos])), utf8.MaxRune+1)
		p.pos++
	}
	if braces && p.peek() == '}' && n > 0 {
		p.pos++
	} else if braces || n < 2 {
		return 0, p.fail(at, `bad escape sequence: write \xHH or \x{H...}`)
	}
	if !utf8.ValidRune(r) || r == 0xfffe || r == 0xffff {
		return 0, p.fail(at, "%s is no character", p.text[at:p.pos])
	}
	return r, true
}

// tripleQuoted reads a string of whole lines between n quotes on lines of
// their own. What the closing line is indented by, each line loses. Nothing
// in it is an escape sequence.
func (p *parser) tripleQuoted(n, head int) (string, bool) {
	at := p.pos
	end := strings.Repeat(`"`, n)
	start := at + head
	for from := start; ; {
		line, _, more := strings.Cut(p.text[from:], "\n")
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		if strings.HasPrefix(line[indent:], end) && !strings.HasPrefix(line[indent+n:], `"`) {
			p.pos = from + indent + n
			return p.unindented(start, p.text[start:max(start, from-1)], line[:indent])
		}
		if !more {
			return "", p.fail(at, "%s is not closed: the line that closes it begins with %s", end, end)
		}
		from += len(line) + 1
	}
}

// unindented is the text, whose lines begin at the offset, without the indentation.
func (p *parser) unindented(from int, text, indent string) (string, bool) {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		rest, ok := strings.CutPrefix(line, indent)
		if !ok && line != "" {
			return "", p.fail(from, "a line of a triple-quoted string is indented less than the line that closes it")
		}
		lines = append(lines, rest)
		from += len(line) + 1
	}
	return strings.TrimSuffix(strings.Join(lines, "\n"), "\r"), true
}

// sigil reads ~"text" and its kin: s and S for strings, b, B and none for
// binaries; the capitals read everything literally.
func (p *parser) sigil() bool {
	at := p.pos
	p.pos++
	name := p.text[p.pos : p.pos+nameLen(p.text[p.pos:])]
	p.pos += len(name)
	if name != "" && !strings.Contains("sSbB", name) || len(name) > 1 {
		return p.fail(at, "unknown sigil ~%s (have ~s, ~S, ~b, ~B, ~)", name)
	}
	literal := name == "S" || name == "B"
	text, ok := p.sigilText(!literal)
	if ok && !literal {
		text, ok = p.expand(at, "string", text, ok)
	}
	if !ok {
		return false
	}
	if name == "s" || name == "S" {
		return p.push(at, NewString(text))
	}
	return p.spend(at, len(text)) && p.push(at, NewBinary(text))
}

// sigilText reads the text of a sigil with its delimiters.
func (p *parser) sigilText(escapes bool) (string, bool) {
	const opening, closing = "([{</|'\"`#", ")]}>/|'\"`#"
	if n := quotes(p.text[p.pos:]); n >= 3 {
		if end := blankLine(p.text[p.pos+n:]); end >= 0 {
			return p.tripleQuoted(n, n+end+1)
		}
	}
	i := strings.IndexByte(opening, p.peek())
	if p.pos == len(p.text) || i < 0 {
		return "", p.unexpected(fmt.Sprintf("one of %s", opening))
	}
	return p.quoted(opening[i], closing[i], escapes)
}
