package erlang

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
)

// Limits on what one text of Erlang terms may ask for.
const (
	maxDepth     = 10_000  // of nesting
	maxDigits    = 100_000 // of one number
	efforts      = 32      // visits of terms beyond the first, for each byte of the text
	maxErlBinary = 1 << 20 // bytes that all binaries of a text hold together, beyond as many as it has
)

// Options say how a text of Erlang terms is read.
type Options struct {
	// Vars are what ${name} stands for where a term can stand. A name
	// that is not among them is an error.
	Vars map[string]Term

	// Expand has ${name} expanded inside of strings, quoted atoms, binaries and sigils, too,
	// but for the names in Keep; $${ stands for ${ there. Used, if not nil, gets
	// every name that was wanted.
	Expand bool
	Keep   []string
	Used   map[string]bool

	// Placeless leaves line and column out of the positions in messages, for
	// a text that nobody wrote.
	Placeless bool
}

// Parse reads every term of a text as Erlang's file:consult/1 does: terms
// that each end in a dot, with comments; in UTF-8, or Latin-1 where a comment
// in the first two lines says so (%% coding: latin-1). A NUL byte, which is white space
// to Erlang, is refused. Beside what release 25 reads,
// it knows the triple-quoted strings, sigils and based floats of release 27. File
// names the text in errors, which are *position.Error.
//
// ${name} in the place of a term stands for a variable. It is no Erlang: there
// "${" is the character "{", which no name can follow. Beside strings, it is joined with them, as
// adjacent strings are: a string, or the digits of a number.
func Parse(file, text string, o Options) ([]Term, error) {
	p := parser{doc: &document{name: file, text: text, placeless: o.Placeless}, vars: o.Vars, options: o, spare: maxErlBinary + len(text), efforts: efforts * (len(text) + 1<<12)}
	if !p.decode() {
		return nil, p.err
	}
	for {
		p.skip()
		if p.pos == len(p.text) {
			return p.popFrom(0), nil
		}
		if !p.term() || !p.dot() {
			return nil, p.err
		}
	}
}

// parser reads terms right from the text. A function that reads a term
// pushes it on the stack; on a mistake it records it and returns false.
type parser struct {
	doc     *document
	text    string // of doc, in UTF-8
	pos     int    // of the next byte
	vars    map[string]Term
	options Options
	depth   int
	spare   int // bytes that binaries may still hold
	efforts int // visits that may still be made
	stack   []Term
	arena   []Term // room for the items of terms to come
	err     *position.Error
}

func (p *parser) fail(off int, format string, args ...any) bool {
	p.err = p.doc.errorAt(off, fmt.Sprintf(format, args...))
	return false
}

// push adds a term that began at the offset.
func (p *parser) push(off int, t Term) bool {
	t.off, t.doc = uint32(off), p.doc
	p.stack = append(p.stack, t)
	return true
}

// arenaTerms is how many terms are allocated at once.
const arenaTerms = 1024

// popFrom removes the terms from the stack that lie above start, and returns them.
func (p *parser) popFrom(start int) []Term {
	n := len(p.stack) - start
	if n == 0 {
		return nil
	}
	if n > len(p.arena) {
		p.arena = make([]Term, max(n, arenaTerms))
	}
	items := p.arena[:n:n]
	p.arena = p.arena[n:]
	copy(items, p.stack[start:])
	p.stack = p.stack[:start]
	return items
}

// decode checks the encoding, and translates Latin-1.
func (p *parser) decode() bool {
	if erlLatin1(p.doc.text) {
		p.doc.text = latin1(p.doc.text)
	}
	p.text = p.doc.text
	if uint64(len(p.text)) > 1<<32-1 {
		return p.fail(0, "a text of %d bytes is too large", len(p.text))
	}
	if at, problem := charset.Find(p.text); problem != "" {
		if p.text[at] >= 0x80 && !strings.HasPrefix(p.text, "\ufeff") {
			problem += ", or name its encoding in the first line: %% coding: latin-1"
		}
		return p.fail(at, "%s", problem)
	}
	for _, illegal := range []string{"\uFFFE", "\uFFFF"} {
		if i := strings.Index(p.text, illegal); i >= 0 {
			return p.fail(i, "U+%04X is no character", []rune(illegal)[0])
		}
	}
	return true
}

// peek is the next byte, or 0 at the end.
func (p *parser) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// dot reads the end of a term: a dot, and then white space, a comment or the end.
func (p *parser) dot() bool {
	p.skip()
	if p.peek() != '.' {
		return p.unexpected(`a "." that ends the term`)
	}
	p.pos++
	if p.pos < len(p.text) && p.peek() != '%' && p.space() == 0 {
		return p.unexpected(`white space behind the "."`)
	}
	return true
}

// unexpected says what stands where something else should.
func (p *parser) unexpected(want string) bool {
	if p.pos >= len(p.text) {
		return p.fail(p.pos, "the text ends here: want %s", want)
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return p.fail(p.pos, "unexpected %q: want %s", r, want)
}

// term reads one term.
func (p *parser) term() bool {
	p.skip()
	if p.depth++; p.depth > maxDepth {
		return p.fail(p.pos, "terms are nested more than %d deep", maxDepth)
	}
	ok := p.bare()
	p.depth--
	return ok
}

func (p *parser) bare() bool {
	switch c := p.peek(); {
	case 'a' <= c && c <= 'z':
		return p.word()
	case '0' <= c && c <= '9':
		return p.number(p.pos, false)
	case c == '"':
		return p.strings()
	case c == '$':
		return p.dollar()
	case c == '{':
		return p.sequence(tupleTerm, '}')
	case c == '[':
		return p.list()
	case c == '<':
		return p.binary()
	case c == '#':
		return p.mapping()
	case c == '\'':
		return p.quotedAtom()
	case c == '-' || c == '+':
		return p.signed()
	case c == '(':
		return p.parenthesis()
	case c == '~':
		return p.sigil()
	}
	return p.odd()
}

// odd reads what begins with no ASCII letter, digit or punctuation of a term.
func (p *parser) odd() bool {
	if n := isNameChar(p.text[p.pos:]); n > 0 {
		if n == 2 && p.text[p.pos+1] >= 0x9f {
			return p.word()
		}
		name := p.text[p.pos : p.pos+nameLen(p.text[p.pos:])]
		return p.fail(p.pos, "%s is a variable: want a literal term; an atom that begins so is quoted: '%s'", name, name)
	}
	return p.unexpected("a term")
}

// parenthesis reads a term in parentheses, which mean nothing.
func (p *parser) parenthesis() bool {
	p.pos++
	if !p.term() {
		return false
	}
	return p.expect(')')
}

func (p *parser) expect(c byte) bool {
	p.skip()
	if p.peek() != c {
		return p.unexpected(fmt.Sprintf("%q", c))
	}
	p.pos++
	return true
}

// signed reads a number with a sign before it.
func (p *parser) signed() bool {
	at, minus := p.pos, p.peek() == '-'
	p.pos++
	p.skip()
	if c := p.peek(); '0' <= c && c <= '9' {
		return p.number(at, minus)
	}
	if c := p.peek(); c == '-' || c == '+' {
		return p.unexpected("a number")
	}
	if !p.term() {
		return false
	}
	t := &p.stack[len(p.stack)-1]
	if t.kind != intTerm && t.kind != floatTerm {
		return p.fail(at, "a sign stands before %s: want a number", t.describe())
	}
	if c := p.text[t.off]; c == '-' || c == '+' {
		return p.fail(at, "two signs stand before a number")
	}
	if minus {
		t.text = negated(t.text)
	}
	t.off = uint32(at)
	return true
}

// negated is the number with its sign turned; there is no integer -0.
func negated(text string) string {
	if s, ok := strings.CutPrefix(text, "-"); ok {
		return s
	}
	if text == "0" {
		return text
	}
	return "-" + text
}

// sequence reads terms between commas up to the closing bracket.
func (p *parser) sequence(kind kind, end byte) bool {
	at, start := p.pos, len(p.stack)
	p.pos++
	if p.skip(); p.peek() == end {
		p.pos++
		return p.push(at, Term{kind: kind})
	}
	for {
		if !p.term() {
			return false
		}
		switch p.skip(); p.peek() {
		case ',':
			p.pos++
		case end:
			p.pos++
			return p.push(at, Term{kind: kind, items: p.popFrom(start)})
		default:
			return p.unclosed(at, fmt.Sprintf(`"," or %q`, end))
		}
	}
}

// unclosed reports what is missing in something that began at the offset.
func (p *parser) unclosed(at int, want string) bool {
	if p.pos < len(p.text) && p.text[p.pos] != '.' {
		return p.unexpected(want)
	}
	return p.fail(at, "%q is not closed", p.text[at])
}

// list reads a list. A tail that is a list in brackets itself is no tail, but
// further items; they are read in the same loop, whatever their number.
func (p *parser) list() bool {
	at, start, tails := p.pos, len(p.stack), 0
	p.pos++
	for opened := true; ; opened = false {
		if p.skip(); opened && p.peek() == ']' {
			return p.closeList(at, start, tails)
		}
		if !p.term() {
			return false
		}
		switch p.skip(); p.peek() {
		case ',':
			p.pos++
			continue
		case ']':
			return p.closeList(at, start, tails)
		case '|':
			p.pos++
		default:
			return p.unclosed(at, `",", "|" or "]"`)
		}
		if p.skip(); p.peek() != '[' {
			return p.tail(at, start, tails)
		}
		p.pos++
		tails++
		if p.skip(); p.peek() == ']' {
			return p.closeList(at, start, tails)
		}
	}
}

// closeList reads the closing brackets of a list and of the tails in it.
func (p *parser) closeList(at, start, tails int) bool {
	for range tails + 1 {
		if !p.expect(']') {
			return false
		}
	}
	return p.push(at, Term{kind: listTerm, items: p.popFrom(start)})
}

// tail reads the tail of a list that is none in brackets. In parentheses or as
// a string it can still be a list.
func (p *parser) tail(at, start, tails int) bool {
	if !p.term() {
		return false
	}
	t := p.pop()
	improper := t.kind != stringTerm && t.kind != listTerm || t.improper
	switch t.kind {
	case listTerm:
		if !p.effort(at, len(t.items)) {
			return false
		}
		p.stack = append(p.stack, t.items...)
	case stringTerm:
		for _, r := range t.text {
			p.push(int(t.off), NewInt(formatInt(int64(r))))
		}
	default:
		p.stack = append(p.stack, t)
	}
	if !p.closeList(at, start, tails) {
		return false
	}
	p.stack[len(p.stack)-1].improper = improper
	return true
}

// effort counts visits of terms beyond the first, which a hostile text could
// demand again and again.
func (p *parser) effort(at, n int) bool {
	if p.efforts -= n; p.efforts < 0 {
		return p.fail(at, "lists in parentheses or maps as keys of maps are nested too often")
	}
	return true
}

// mapping reads a map. Of pairs with one key the last counts.
func (p *parser) mapping() bool {
	at, start := p.pos, len(p.stack)
	p.pos++
	if !p.expect('{') {
		return false
	}
	if p.skip(); p.peek() == '}' {
		p.pos++
		return p.push(at, Term{kind: mapTerm})
	}
	for {
		if !p.pair() {
			return false
		}
		switch p.skip(); p.peek() {
		case ',':
			p.pos++
		case '}':
			p.pos++
			items, ok := p.lastPairs(p.popFrom(start))
			return ok && p.push(at, Term{kind: mapTerm, items: items})
		default:
			return p.unclosed(at, `"," or "}"`)
		}
	}
}

func (p *parser) pair() bool {
	if !p.term() {
		return false
	}
	p.skip()
	if !strings.HasPrefix(p.text[p.pos:], "=>") {
		return p.unexpected(`"=>"`)
	}
	p.pos += 2
	return p.term()
}

// lastPairs drops the pairs whose key comes again.
func (p *parser) lastPairs(items []Term) ([]Term, bool) {
	if len(items) == 2 {
		return items, true
	}
	at := make(map[string]int, len(items)/2)
	kept := items[:0]
	for i := 0; i < len(items); i += 2 {
		if len(items[i].items) > 0 && !p.effort(int(items[i].off), items[i].weight(p.efforts)) {
			return nil, false
		}
		key := items[i].key()
		if j, twice := at[key]; twice {
			kept[j], kept[j+1] = items[i], items[i+1]
			continue
		}
		at[key] = len(kept)
		kept = append(kept, items[i], items[i+1])
	}
	return kept, true
}

// fun reads the rest of "fun m:f/a".
func (p *parser) fun(at int) bool {
	start := len(p.stack)
	for _, next := range []byte{':', '/', 0} {
		p.skip()
		from := p.pos
		if !p.term() {
			return false
		}
		t := &p.stack[len(p.stack)-1]
		plain := p.text[from] != '(' && p.text[from] != '-' && p.text[from] != '+' && p.text[from] != '$'
		if !plain || next != 0 && t.kind != atomTerm || next == 0 && (t.kind != intTerm || len(t.text) > 3 || t.text > "255" && len(t.text) == 3) {
			return p.fail(at, "the only literal fun is an external one, such as fun lists:map/2")
		}
		if p.skip(); next != 0 && p.peek() != next {
			return p.fail(at, "the only literal fun is an external one, such as fun lists:map/2")
		}
		if next != 0 {
			p.pos++
		}
	}
	return p.push(at, Term{kind: funTerm, items: p.popFrom(start)})
}
