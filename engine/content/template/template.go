// Package template expands ${name} in texts, strictly: a name without a value
// is a mistake, with its position.
//
//	Text          a parsed template: Parse, Text.Check, Text.Execute, Text.Expand
//	IsName        what a name may be, as NameRule says
//	Unused        names that were given in vain
//	UnknownName   the sentence about a name that nobody gave
package template

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/near"
)

// Text is a template, a text with ${name} in it. Its syntax has two rules:
//
//   - ${name} stands for the value of that name: a letter or underscore,
//     followed by letters, digits, underscores and hyphens, all ASCII;
//   - $${ stands for a literal ${.
//
// Everything else stands for itself, so that shell scripts keep their $HOME
// and $(command). A ${ that does not begin a name is an error, because a
// silent literal would hide a misspelling. A name that is kept is no name of the
// template's: ${NAME}, and ${NAME:-default} and the like, stand for themselves.
type Text struct{ parts []part }

// part is a literal text, or a name to expand and its position.
type part struct {
	text string // literal, when name is empty
	name string
	at   position.Position
}

// Parse reads a template, in which the names in keep are left as they are. File names
// it in errors, which are *position.Error, several of them joined.
func Parse(file, text string, keep []string) (*Text, error) {
	if err := charset.Check(file, text); err != nil {
		return nil, err
	}
	p := parser{t: &Text{}, keep: keep, text: text, rest: text, at: position.NewCursor(file, text)}
	for p.rest != "" {
		p.next()
	}
	if err := position.Join(p.errs); err != nil {
		return nil, err
	}
	return p.t, nil
}

type parser struct {
	t          *Text
	keep       []string
	text, rest string
	at         position.Cursor
	errs       []*position.Error
}

// here is the position of what is left.
func (p *parser) here() position.Position { return p.at.Position(len(p.text) - len(p.rest)) }

// next consumes a literal up to the next dollar, or what the dollar begins.
func (p *parser) next() {
	switch i := strings.IndexByte(p.rest, '$'); {
	case i < 0:
		p.literal(len(p.rest))
	case i > 0:
		p.literal(i)
	case strings.HasPrefix(p.rest, "$${"):
		p.t.parts = append(p.t.parts, part{text: "${"})
		p.rest = p.rest[3:]
	case strings.HasPrefix(p.rest, "${"):
		p.reference()
	default:
		p.literal(1)
	}
}

func (p *parser) literal(n int) {
	p.t.parts = append(p.t.parts, part{text: p.rest[:n]})
	p.rest = p.rest[n:]
}

// reference consumes ${name}; on a mistake it records it and goes on behind the ${.
func (p *parser) reference() {
	n := nameLength(p.rest[2:])
	if kept := p.kept(n); kept > 0 {
		p.literal(2 + kept)
		return
	}
	if n == 0 || len(p.rest) == 2+n || p.rest[2+n] != '}' {
		p.fail(n)
		return
	}
	p.t.parts = append(p.t.parts, part{name: p.rest[2 : 2+n], at: p.here()})
	p.rest = p.rest[n+3:]
}

// kept is the length of the kept name that the reference begins with, 0 without one.
// To a shell a hyphen ends a name: ${NAME-default}.
func (p *parser) kept(n int) int {
	name := p.rest[2 : 2+n]
	if slices.Contains(p.keep, name) {
		return n
	}
	if name, _, _ = strings.Cut(name, "-"); slices.Contains(p.keep, name) {
		return len(name)
	}
	return 0
}

func (p *parser) fail(n int) {
	msg := `"${" is not followed by a name and "}": write "$${" for a literal "${"`
	end := strings.IndexAny(p.rest, "}\n")
	name := p.rest[2 : 2+n]
	switch {
	case n > 0 && !strings.Contains(p.rest, "}"):
		msg = fmt.Sprintf(`"${%s" has no closing "}"`, name)
	case n > 0 && end > 0 && p.rest[end] == '}' && strings.ContainsRune(":=?+#%/^,@[", rune(p.rest[2+n])):
		msg = fmt.Sprintf("%q is for a shell, and no template has it: give %s a value and write \"${%s}\", leave this as it is by keep = [%q], or write \"$%s\"", p.rest[:end+1], name, name, name, p.rest[:end+1])
	}
	p.errs = append(p.errs, p.here().Errorf("%s", msg))
	p.rest = p.rest[2:]
}

// nameLength is the length of the name that s begins with, or 0.
func nameLength(s string) int {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c != '-' && (c < '0' || c > '9')) {
			return i
		}
	}
	return len(s)
}

// IsName reports whether a template can refer to the name.
func IsName(name string) bool {
	return name != "" && nameLength(name) == len(name)
}

// NameRule says what a name may be, for messages.
const NameRule = "use letters, digits, _ and -, and begin with a letter or _"

// Names lists the names that the template refers to, in order, each once.
func (t *Text) Names() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// Only is the name that the whole text is a reference to, "" if it is anything else.
func (t *Text) Only() string {
	if len(t.parts) == 1 {
		return t.parts[0].name
	}
	return ""
}

// Expand returns the text with the values that the function has for its names.
func (t *Text) Expand(value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range t.parts {
		text := p.text
		if p.name != "" {
			var err error
			if text, err = value(p.name); err != nil {
				return "", err
			}
		}
		b.WriteString(text)
	}
	return b.String(), nil
}

// Unused lists the names that were given and are not among those used, sorted.
func Unused(given, used []string) []string {
	left := slices.DeleteFunc(slices.Clone(given), func(name string) bool { return slices.Contains(used, name) })
	slices.Sort(left)
	return left
}

// Check finds the references to names that are not among have: a *position.Error
// for each, joined.
func (t *Text) Check(have []string) error {
	var errs []*position.Error
	for _, p := range t.parts {
		if p.name != "" && !slices.Contains(have, p.name) {
			errs = append(errs, p.at.Errorf("%s", UnknownName(p.name, have)))
		}
	}
	return position.Join(errs)
}

// UnknownName is what to say of a name that is not among have.
func UnknownName(name string, have []string) string {
	sorted := slices.Sorted(slices.Values(have))
	if len(have) == 0 {
		return fmt.Sprintf("unknown name %q (no names are given)", name)
	}
	return fmt.Sprintf("unknown name %q (have %s)%s", name, strings.Join(sorted, ", "), near.Hint(name, sorted))
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
