// Package template expands ${name} in texts, strictly: a name without a value
// is a mistake, with its position.
//
//	Text          a parsed template: Parse, Text.Check, Text.Execute
//	IsName        what a name may be
//	UnknownName   the sentence about a name that nobody gave
package template

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/near"
)

// Text is a template, a text with ${name} in it. Its syntax has two rules:
//
//   - ${name} stands for the value of that name: a letter or underscore,
//     followed by letters, digits and underscores, all ASCII;
//   - $${ stands for a literal ${.
//
// Everything else stands for itself, so that shell scripts keep their $HOME
// and $(command). A ${ that does not begin a name is an error, because a
// silent literal would hide a misspelling.
type Text struct {
	file  string
	parts []part
}

// part is a literal text, or a name to expand and its position.
type part struct {
	text      string // literal, when name is empty
	name      string
	line, col int
}

// Parse reads a template. File names it in errors, which are *position.Error,
// several of them joined.
func Parse(file, text string) (*Text, error) {
	p := parser{t: &Text{file: file}, rest: text, line: 1, col: 1}
	for p.rest != "" {
		p.next()
	}
	if len(p.errs) > 0 {
		return nil, position.Join(p.errs)
	}
	return p.t, nil
}

type parser struct {
	t         *Text
	rest      string
	line, col int // of the first character of rest
	errs      []*position.Error
}

// next consumes a literal up to the next dollar, or what the dollar begins.
func (p *parser) next() {
	switch i := strings.IndexByte(p.rest, '$'); {
	case i < 0:
		p.literal(len(p.rest))
	case i > 0:
		p.literal(i)
	case strings.HasPrefix(p.rest, "$${"):
		p.t.parts = append(p.t.parts, part{text: "${"})
		p.advance(3)
	case strings.HasPrefix(p.rest, "${"):
		p.reference()
	default:
		p.literal(1)
	}
}

func (p *parser) literal(n int) {
	p.t.parts = append(p.t.parts, part{text: p.rest[:n]})
	p.advance(n)
}

// reference consumes ${name}; on a mistake it records it and goes on behind the ${.
func (p *parser) reference() {
	n := nameLength(p.rest[2:])
	if n == 0 || len(p.rest) == 2+n || p.rest[2+n] != '}' {
		p.fail(n)
		return
	}
	p.t.parts = append(p.t.parts, part{name: p.rest[2 : 2+n], line: p.line, col: p.col})
	p.advance(n + 3)
}

func (p *parser) fail(n int) {
	msg := `"${" is not followed by a name and "}": write "$${" for a literal "${"`
	if n > 0 && !strings.Contains(p.rest, "}") {
		msg = fmt.Sprintf(`"${%s" has no closing "}"`, p.rest[2:2+n])
	}
	p.errs = append(p.errs, position.Position{File: p.t.file, Line: p.line, Col: p.col}.Errorf("%s", msg))
	p.advance(2)
}

// advance drops n bytes and moves the position past them.
func (p *parser) advance(n int) {
	gone := p.rest[:n]
	p.rest = p.rest[n:]
	if lines := strings.Count(gone, "\n"); lines > 0 {
		p.line += lines
		p.col = 1
		gone = gone[strings.LastIndexByte(gone, '\n')+1:]
	}
	p.col += utf8.RuneCountInString(gone)
}

// nameLength is the length of the name that s begins with, or 0.
func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// IsName reports whether a template can refer to the name.
func IsName(name string) bool {
	return name != "" && nameLength(name) == len(name)
}

// Check finds the references to names that are not among have: a *position.Error
// for each, joined.
func (t *Text) Check(have []string) error {
	known := make(map[string]bool, len(have))
	for _, name := range have {
		known[name] = true
	}
	var errs []*position.Error
	for _, p := range t.parts {
		if p.name != "" && !known[p.name] {
			errs = append(errs, position.Position{File: t.file, Line: p.line, Col: p.col}.Errorf("%s", UnknownName(p.name, have)))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return position.Join(errs)
}

// UnknownName is what to say of a name that is not among have.
func UnknownName(name string, have []string) string {
	sorted := slices.Sorted(slices.Values(have))
	msg := fmt.Sprintf("unknown name %q (have %s)", name, strings.Join(sorted, ", "))
	if len(have) == 0 {
		msg = fmt.Sprintf("unknown name %q (no names are given)", name)
	}
	msg += near.Hint(name, sorted)
	return msg
}

// Execute writes the expanded text. A name without a value is an error, as
// in Check, and nothing is written then.
func (t *Text) Execute(w io.Writer, values map[string]string) error {
	if err := t.Check(slices.Collect(maps.Keys(values))); err != nil {
		return err
	}
	for _, p := range t.parts {
		text := p.text
		if p.name != "" {
			text = values[p.name]
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
	}
	return nil
}
