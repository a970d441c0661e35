// Package query is the language of `b9 query`: expressions over the graph of targets,
// with the functions, operators and precedence of Bazel's (bazel.build/query/language).
//
//	Parse    reads an expression
//	Eval     says which targets it stands for
//
// It hides the syntax and the walks over the graph. What a pattern stands for it asks.
package query

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"b9.build/b9/engine/near"
)

// Expr is an expression that was read.
type Expr struct {
	op   string // a function, an operator, or one of these
	text string // of a word, of a variable
	args []*Expr
}

const (
	word     = "word"
	variable = "$"
	let      = "let"
	set      = "set"
)

// operator is the name of an operator, "" of what is none. All bind alike and to the left.
func operator(text string) string {
	switch text {
	case "+", "union":
		return "union"
	case "-", "except":
		return "except"
	case "^", "intersect":
		return "intersect"
	}
	return ""
}

// IsExpression reports whether the words of a command line are an expression rather
// than patterns.
func IsExpression(words []string) bool {
	for _, w := range words {
		if operator(w) != "" || w == let || strings.ContainsAny(w, "()$") || strings.ContainsAny(w, " \t\n") {
			return true
		}
	}
	return false
}

// Parse reads an expression. The error says where it is wrong: the offset in bytes, from 1.
func Parse(text string) (*Expr, error) {
	tokens, err := scan(text)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	e, err := p.expr()
	if err == nil && p.peek().text != "" {
		err = p.unexpected("an operator, or the end")
	}
	return e, err
}

// token is a word or a mark of the text; text is "" at the end.
type token struct {
	text   string
	at     int
	quoted bool
}

// scan splits the text.
func scan(text string) (list []token, err error) {
	for i := 0; i < len(text); {
		c := text[i]
		switch n := wordLength(text[i:]); {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case c == '"' || c == '\'':
			end := strings.IndexByte(text[i+1:], c)
			if end < 0 {
				return nil, fmt.Errorf("at %d: the quote %c has no other", i+1, c)
			}
			list = append(list, token{text[i+1 : i+1+end], i, true})
			i += end + 2
		case strings.IndexByte("()+^=,-", c) >= 0:
			list = append(list, token{text: text[i : i+1], at: i})
			i++
		case n > 0:
			list = append(list, token{text: text[i : i+n], at: i})
			i += n
		default:
			return nil, fmt.Errorf("at %d: unexpected character %q: put words with such in quotes", i+1, c)
		}
	}
	return append(list, token{at: len(text)}), nil
}

// wordLength is how long the word is that a text begins with, which may go on with
// characters that it can't begin with.
func wordLength(text string) int {
	for i := range len(text) {
		c := text[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80
		if !letter && strings.IndexByte("*/@.:_$~[]%?|", c) < 0 && (i == 0 || strings.IndexByte("-=+^", c) < 0) {
			return i
		}
	}
	return len(text)
}

type parser struct {
	tokens []token
	scope  []string // the variables that let defines around
}

func (p *parser) peek() token { return p.tokens[0] }

func (p *parser) next() token {
	t := p.tokens[0]
	if len(p.tokens) > 1 {
		p.tokens = p.tokens[1:]
	}
	return t
}

func (p *parser) unexpected(want string) error {
	t := p.peek()
	if t.text == "" && !t.quoted {
		return fmt.Errorf("at %d: the expression ends, want %s", t.at+1, want)
	}
	return fmt.Errorf("at %d: unexpected %q, want %s", t.at+1, t.text, want)
}

// mark takes a mark, or a word of the language.
func (p *parser) mark(text string) error {
	if t := p.peek(); t.text != text || t.quoted {
		return p.unexpected(strconv.Quote(text))
	}
	p.next()
	return nil
}

// expr reads what operators join.
func (p *parser) expr() (*Expr, error) {
	left, err := p.primary()
	for err == nil {
		op := operator(p.peek().text)
		if op == "" || p.peek().quoted {
			return left, nil
		}
		p.next()
		var right *Expr
		right, err = p.primary()
		left = &Expr{op: op, args: []*Expr{left, right}}
	}
	return nil, err
}

func (p *parser) primary() (*Expr, error) {
	t := p.peek()
	switch {
	case t.quoted:
		return p.word()
	case t.text == "(":
		p.next()
		e, err := p.expr()
		if err != nil {
			return nil, err
		}
		return e, p.mark(")")
	case t.text == let:
		return p.let()
	case t.text == set:
		return p.set()
	case strings.HasPrefix(t.text, "$"):
		return p.variable()
	}
	if f, ok := functions()[t.text]; ok && p.tokens[1].text == "(" && !p.tokens[1].quoted {
		return p.call(f)
	}
	if len(p.tokens) > 1 && p.tokens[1].text == "(" && !p.tokens[1].quoted {
		var names []string
		for name := range functions() {
			names = append(names, name)
		}
		return nil, fmt.Errorf("at %d: there is no function %q%s", t.at+1, t.text, near.Hint(t.text, names))
	}
	return p.word()
}

func (p *parser) word() (*Expr, error) {
	t := p.peek()
	if !t.quoted && t.text == "" || !t.quoted && (operator(t.text) != "" || strings.Contains("(),=", t.text) || t.text == "in") {
		return nil, p.unexpected("a target, a pattern or a function")
	}
	p.next()
	return &Expr{op: word, text: t.text}, nil
}

// let reads let NAME = EXPR in EXPR.
func (p *parser) let() (*Expr, error) {
	p.next()
	name := p.next()
	if err := p.mark("="); err != nil {
		return nil, err
	}
	value, err := p.expr()
	if err != nil {
		return nil, err
	}
	if err := p.mark("in"); err != nil {
		return nil, err
	}
	p.scope = append(p.scope, name.text)
	body, err := p.expr()
	p.scope = p.scope[:len(p.scope)-1]
	return &Expr{op: let, text: name.text, args: []*Expr{value, body}}, err
}

func (p *parser) variable() (*Expr, error) {
	t := p.next()
	for _, name := range p.scope {
		if name == t.text[1:] {
			return &Expr{op: variable, text: name}, nil
		}
	}
	return nil, fmt.Errorf("at %d: nothing defines %s: write let %s = A in B", t.at+1, t.text, t.text[1:])
}

// set reads set(WORD WORD ...).
func (p *parser) set() (*Expr, error) {
	p.next()
	e := &Expr{op: set}
	if err := p.mark("("); err != nil {
		return nil, err
	}
	for p.peek().quoted || p.peek().text != ")" {
		w, err := p.word()
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, w)
	}
	return e, p.mark(")")
}

// call reads the arguments of a function.
func (p *parser) call(f function) (*Expr, error) {
	name := p.next()
	e := &Expr{op: name.text}
	p.next()
	for i := range f.args {
		if i >= f.required && (p.peek().quoted || p.peek().text != ",") {
			break
		}
		if i > 0 {
			if err := p.mark(","); err != nil {
				return nil, fmt.Errorf("%w: %s%s", err, name.text, f.usage)
			}
		}
		arg, err := p.argument(f.args[i])
		if err != nil {
			return nil, fmt.Errorf("%w: %s%s", err, name.text, f.usage)
		}
		e.args = append(e.args, arg)
	}
	if err := p.mark(")"); err != nil {
		return nil, fmt.Errorf("%w: %s%s", err, name.text, f.usage)
	}
	return e, nil
}

// argument reads an argument: e an expression, w a word, r a regular expression, n a
// number, p one that is not 0.
func (p *parser) argument(kind byte) (*Expr, error) {
	t := p.peek()
	n, err := strconv.Atoi(t.text)
	switch {
	case kind == 'e':
		return p.expr()
	case kind == 'n' && (err != nil || n < 0):
		return nil, p.unexpected("a whole number")
	case kind == 'p' && (err != nil || n < 1):
		return nil, p.unexpected("a whole number of at least 1")
	case kind == 'r':
		if _, err := regexp.Compile(t.text); err != nil {
			return nil, fmt.Errorf("at %d: %q is no regular expression: %w", t.at+1, t.text, err)
		}
	}
	return p.word()
}
