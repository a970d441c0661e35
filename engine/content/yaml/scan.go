package yaml

import (
	"slices"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
)

// scanner cuts a text into tokens as PyYAML does. Where YAML 1.1 and
// PyYAML disagree, PyYAML is right: what it refuses cloud-init can't read, and
// what it accepts may stand in files that work.
//
// After a mistake the scanner stands at the end of its text and gives only
// the end of the stream, so that whoever reads its tokens comes to an end.
type scanner struct {
	file, text string
	pos        int             // of the next byte
	at         mark            // of the same
	err        *position.Error // the first mistake

	tokens   []token // from head on not yet consumed
	head     int
	consumed int // tokens that were consumed

	flow    int   // flow collections that are open
	indent  int   // column of the block collection that is open, or -1
	indents []int // of those around it
	keyHere bool  // a key without ? may begin at the next token
	keys    []possibleKey
	done    bool
}

// mark is a position, all of it counted from 0: the column in characters
// as editors show them, the index in characters from the beginning.
type mark struct{ line, col, index int }

type tokenKind int

const (
	tokStreamEnd tokenKind = iota
	tokDirective
	tokDocumentStart
	tokDocumentEnd
	tokBlockList
	tokBlockMapping
	tokBlockEnd
	tokListOpen
	tokListClose
	tokMappingOpen
	tokMappingClose
	tokComma
	tokDash
	tokKey
	tokValue
	tokAlias
	tokAnchor
	tokTag
	tokScalar
)

// String names what a token stands for in the text.
func (k tokenKind) String() string {
	return [...]string{
		"the end of the text", "a directive", `"---"`, `"..."`, "a list", "a mapping", "less indentation", `"["`, `"]"`, `"{"`, `"}"`, `","`, `"-"`,
		"a key", `":"`, "an alias", "an anchor", "a tag", "a value",
	}[k]
}

type token struct {
	kind   tokenKind
	at     mark
	text   string // of a scalar; name of an anchor, alias or directive; suffix of a tag
	handle string // of a tag or %TAG; "" for a verbatim tag
	quoted bool   // the scalar is not plain
}

// possibleKey is a token that a following colon would make a key.
type possibleKey struct {
	possible bool
	required bool // the indentation allows nothing else
	token    int  // its number
	at       mark
}

const maxKeyLength = 1024 // characters, of a key without ? before it

func newScanner(file, text string) *scanner {
	return &scanner{file: file, text: text, indent: -1, keyHere: true, keys: make([]possibleKey, 1, 8)}
}

func (s *scanner) position(at mark) position.Position {
	return position.Position{File: s.file, Line: at.line + 1, Col: at.col + 1}
}

func (s *scanner) fail(at mark, format string, args ...any) {
	if s.err == nil {
		s.err = s.position(at).Errorf(format, args...)
	}
	s.pos = len(s.text)
}

// peek is the next token, which stays.
func (s *scanner) peek() token {
	for s.err == nil && s.wantsMore() {
		s.fetch()
	}
	if s.err != nil {
		return token{at: s.at}
	}
	return s.tokens[s.head]
}

// next consumes the next token. At the end of the stream it returns the end again.
func (s *scanner) next() token {
	t := s.peek()
	if t.kind == tokStreamEnd {
		return t
	}
	s.consumed++
	if s.head++; s.head == len(s.tokens) {
		s.tokens, s.head = s.tokens[:0], 0
	}
	return t
}

// wantsMore reports whether the next token is not known yet: there is none, or
// a key token may have to go before it.
func (s *scanner) wantsMore() bool {
	if s.done {
		return false
	}
	if s.head == len(s.tokens) {
		return true
	}
	s.dropStaleKeys()
	for _, k := range s.keys {
		if k.possible {
			return k.token == s.consumed
		}
	}
	return false
}

// char is the byte n behind the next one; 0 at the end.
func (s *scanner) char(n int) byte {
	if s.pos+n >= len(s.text) {
		return 0
	}
	return s.text[s.pos+n]
}

// breakAt is the length of a line break n bytes on, or 0. "\r\n" is one.
func (s *scanner) breakAt(n int) int {
	switch rest := s.text[min(s.pos+n, len(s.text)):]; s.char(n) {
	case '\n':
		return 1
	case '\r':
		if strings.HasPrefix(rest, "\r\n") {
			return 2
		}
		return 1
	case 0xc2:
		if strings.HasPrefix(rest, "\u0085") {
			return 2
		}
	case 0xe2:
		if strings.HasPrefix(rest, "\u2028") || strings.HasPrefix(rest, "\u2029") {
			return 3
		}
	}
	return 0
}

// lineEndAt reports whether the line or the text ends n bytes on.
func (s *scanner) lineEndAt(n int) bool { return s.pos+n >= len(s.text) || s.breakAt(n) > 0 }

// blankAt reports whether a space, a tab or a line end is n bytes on.
func (s *scanner) blankAt(n int) bool {
	c := s.char(n)
	return c == ' ' || c == '\t' || s.lineEndAt(n)
}

// skip consumes n bytes, in which no line ends; after a mistake nothing is left.
func (s *scanner) skip(n int) {
	n = min(n, len(s.text)-s.pos)
	gone := s.text[s.pos : s.pos+n]
	chars := utf8.RuneCountInString(gone)
	if chars != n {
		s.at.col -= strings.Count(gone, "\ufeff") // has no width
	}
	s.pos += n
	s.at.col += chars
	s.at.index += chars
}

// read consumes n bytes, as skip does, and returns them.
func (s *scanner) read(n int) string {
	from := s.pos
	s.skip(n)
	return s.text[from : from+n]
}

// span is how many bytes there are from n on that are in the set, which is of ASCII.
func (s *scanner) span(n int, set string) int {
	rest := s.text[min(s.pos+n, len(s.text)):]
	return len(rest) - len(strings.TrimLeft(rest, set))
}

func (s *scanner) skipSpaces() { s.skip(s.span(0, " ")) }

// line consumes what is left of the line, not its end, and returns it.
func (s *scanner) line() string {
	n := 0
	for !s.lineEndAt(n) {
		n++
	}
	return s.read(n)
}

// skipComment consumes spaces and what behind them is a comment.
func (s *scanner) skipComment() {
	if s.skipSpaces(); s.char(0) == '#' {
		s.line()
	}
}

// breaks consumes line breaks and what indentation consumes of each line, and
// returns what the breaks mean.
func (s *scanner) breaks(indentation func()) string {
	var all strings.Builder
	for {
		if indentation(); s.breakAt(0) == 0 {
			return all.String()
		}
		all.WriteString(s.skipBreak())
	}
}

// skipBreak consumes a line break, if there is one, and returns what it means
// in a scalar: "\n", or the Unicode line or paragraph separator itself.
func (s *scanner) skipBreak() string {
	n := s.breakAt(0)
	if n == 0 {
		return ""
	}
	text := s.text[s.pos : s.pos+n]
	s.pos += n
	s.at = mark{s.at.line + 1, 0, s.at.index + utf8.RuneCountInString(text)}
	if n == 3 {
		return text
	}
	return "\n"
}

// skipToToken consumes space, comments and empty lines.
func (s *scanner) skipToToken() {
	if s.pos == 0 && strings.HasPrefix(s.text, "\ufeff") {
		s.skip(len("\ufeff"))
	}
	for {
		s.skipComment()
		if s.skipBreak() == "" {
			return
		}
		if s.flow == 0 {
			s.keyHere = true
		}
	}
}

// fetch adds the next token, and those that its position implies.
func (s *scanner) fetch() {
	s.skipToToken()
	s.dropStaleKeys()
	s.unwind(s.at.col)
	switch {
	case s.err != nil:
	case s.pos == len(s.text):
		s.endBlocks()
		s.add(tokStreamEnd)
		s.done = true
	case s.at.col == 0 && s.char(0) == '%':
		s.endBlocks()
		s.directive()
	case s.documentMark("---"):
		s.endBlocks()
		s.addIndicator(tokDocumentStart, 3)
	case s.documentMark("..."):
		s.endBlocks()
		s.addIndicator(tokDocumentEnd, 3)
	default:
		s.fetchValue()
	}
}

// documentEnds reports whether a line begins here that ends the document.
func (s *scanner) documentEnds() bool { return s.documentMark("---") || s.documentMark("...") }

// documentMark reports whether a line begins here with the mark alone.
func (s *scanner) documentMark(mark string) bool {
	return s.at.col == 0 && strings.HasPrefix(s.text[s.pos:], mark) && s.blankAt(3)
}

func (s *scanner) fetchValue() {
	switch c := s.char(0); {
	case c == '[':
		s.open(tokListOpen)
	case c == '{':
		s.open(tokMappingOpen)
	case c == ']':
		s.close(tokListClose)
	case c == '}':
		s.close(tokMappingClose)
	case c == ',':
		s.forgetKey()
		s.keyHere = true
		s.addIndicator(tokComma, 1)
	case c == '-' && s.blankAt(1):
		s.blockIndicator(tokDash, tokBlockList)
	case c == '?' && (s.flow > 0 || s.blankAt(1)):
		s.blockIndicator(tokKey, tokBlockMapping)
	case c == ':' && (s.flow > 0 || s.blankAt(1)):
		s.value()
	case c == '*' || c == '&' || c == '!':
		s.rememberKey()
		s.keyHere = false
		s.property(c)
	default:
		s.fetchScalar(c)
	}
}

func (s *scanner) fetchScalar(c byte) {
	switch {
	case s.flow == 0 && (c == '|' || c == '>'):
		s.forgetKey()
		s.keyHere = true
		s.block(c == '>')
	case c == '\'' || c == '"':
		s.rememberKey()
		s.keyHere = false
		s.quoted(c)
	case s.plainBegins(c):
		s.rememberKey()
		s.keyHere = false
		s.plain()
	case c == '\t':
		s.fail(s.at, "a tab between values: cloud-init can't read it, use spaces")
	default:
		s.fail(s.at, "%q can't begin a value: put the text in quotes", s.text[s.pos:s.pos+1])
	}
}

func (s *scanner) add(kind tokenKind) {
	s.tokens = append(s.tokens, token{kind: kind, at: s.at})
}

// addIndicator adds a token of n characters.
func (s *scanner) addIndicator(kind tokenKind, n int) {
	s.add(kind)
	s.skip(n)
}

// unwind closes the block collections that are indented deeper than col.
func (s *scanner) unwind(col int) {
	for s.flow == 0 && s.indent > col {
		s.indent = s.indents[len(s.indents)-1]
		s.indents = s.indents[:len(s.indents)-1]
		s.add(tokBlockEnd)
	}
}

// endBlocks closes every block collection: a document or the text ends.
func (s *scanner) endBlocks() {
	s.unwind(-1)
	s.forgetKey()
	s.keyHere = false
}

// indentTo opens a block collection if col is deeper than the one around it.
func (s *scanner) indentTo(col int) bool {
	if s.indent >= col {
		return false
	}
	s.indents = append(s.indents, s.indent)
	s.indent = col
	return true
}

func (s *scanner) open(kind tokenKind) {
	s.rememberKey()
	if s.flow++; s.flow > maxDepth {
		s.fail(s.at, "nested more than %d deep", maxDepth)
		return
	}
	for len(s.keys) <= s.flow {
		s.keys = append(s.keys, possibleKey{})
	}
	s.keyHere = true
	s.addIndicator(kind, 1)
}

func (s *scanner) close(kind tokenKind) {
	s.forgetKey()
	if s.flow == 0 {
		s.fail(s.at, "%s closes nothing that is open: put the text in quotes", kind)
		return
	}
	s.flow--
	s.keyHere = false
	s.addIndicator(kind, 1)
}

// blockIndicator adds "- " or "? ", which may begin a block collection.
func (s *scanner) blockIndicator(kind, collection tokenKind) {
	if s.flow == 0 {
		if !s.keyHere {
			s.fail(s.at, "%q can't stand here: begin a new line with it, or put the text in quotes", s.text[s.pos:s.pos+1])
			return
		}
		if s.indentTo(s.at.col) {
			s.add(collection)
		}
	}
	s.forgetKey()
	s.keyHere = s.flow == 0 || kind == tokDash
	s.addIndicator(kind, 1)
}

// value adds ":", and before what precedes it the token of a key.
func (s *scanner) value() {
	key := s.keys[s.flow]
	s.keys[s.flow] = possibleKey{}
	switch {
	case key.possible:
		before := []token{{kind: tokKey, at: key.at}}
		if s.flow == 0 && s.indentTo(key.at.col) {
			before = []token{{kind: tokBlockMapping, at: key.at}, before[0]}
		}
		s.tokens = slices.Insert(s.tokens, s.head+key.token-s.consumed, before...)
		s.keyHere = false
	case s.flow > 0:
		s.keyHere = false
	case !s.keyHere:
		s.fail(s.at, `":" can't stand here: indent what is below a key, and put quotes around text with ": " in it`)
		return
	default:
		if s.indentTo(s.at.col) {
			s.add(tokBlockMapping)
		}
		s.keyHere = true
	}
	s.addIndicator(tokValue, 1)
}

// rememberKey notes that the token that begins here may be a key.
func (s *scanner) rememberKey() {
	if !s.keyHere {
		return
	}
	s.forgetKey()
	s.keys[s.flow] = possibleKey{
		possible: true, required: s.flow == 0 && s.indent == s.at.col,
		token: s.consumed + len(s.tokens) - s.head, at: s.at,
	}
}

// forgetKey notes that what could have been a key is none.
func (s *scanner) forgetKey() { s.drop(s.flow) }

func (s *scanner) drop(level int) {
	if k := s.keys[level]; k.possible && k.required {
		s.fail(k.at, `a key has no ":" behind it`)
	}
	s.keys[level] = possibleKey{}
}

// dropStaleKeys forgets keys that are too long or would end on a later line.
func (s *scanner) dropStaleKeys() {
	for level, k := range s.keys[:s.flow+1] {
		if k.possible && (k.at.line != s.at.line || s.at.index-k.at.index > maxKeyLength) {
			s.drop(level)
		}
	}
}
