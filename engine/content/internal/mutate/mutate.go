// Package mutate tests parsers of foreign text on texts that it makes of valid
// ones: as fuzz targets, and many times as fast without the instrumentation.
//
//	Target   a parser, the texts to begin with, and what must hold of every text
//	Run      runs every parser on mutated texts
//	Fuzz     the fuzz target of a parser
//	Mutator  the texts themselves
package mutate

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"b9.build/b9/engine/internal/position"
)

// Target is a parser of foreign text.
type Target struct {
	Name   string
	Seeds  []string
	Tokens string // what mutations put in, between spaces; a line feed is always among them
	Holds  func(t testing.TB, text string) (valid bool)
}

// fuzzExecs is the variable that says how many texts Run makes for
// each parser. The same number gives the same texts.
const fuzzExecs = "B9_FUZZ_EXECS"

// maxMutated is how long a mutated text may become, in bytes: what is long
// costs time and finds no more.
const maxMutated = 400

// Mutator makes texts of texts: of those it began with and, as far as they are
// valid, of those it made.
type Mutator struct {
	*rand.Rand
	pool   []string
	seeds  int // that many of the pool stay
	tokens []string
}

const mutatorPool = 4096

// New returns a mutator that makes the same texts every time.
func New(p Target) *Mutator {
	m := &Mutator{Rand: rand.New(rand.NewPCG(2026, 9)), tokens: append(strings.Split(p.Tokens, " "), "\n", "\n  ", " ", "  ", "\t")}
	for _, s := range p.Seeds {
		if len(s) <= maxMutated {
			m.pool = append(m.pool, s)
		}
	}
	m.seeds = len(m.pool)
	return m
}

// Keep makes a valid text one of those to begin with.
func (m *Mutator) Keep(s string) {
	if len(m.pool) < m.seeds+mutatorPool {
		m.pool = append(m.pool, s)
		return
	}
	m.pool[m.seeds+m.IntN(mutatorPool)] = s
}

func (m *Mutator) any() string { return m.pool[m.IntN(len(m.pool))] }

// span is a random part of a text: from, up to and without to.
func (m *Mutator) span(s string) (from, to int) {
	from = m.IntN(len(s) + 1)
	return from, from + m.IntN(min(len(s)-from, 40)+1)
}

// Next returns a text of at most 400 bytes.
func (m *Mutator) Next() string {
	s := m.any()
	for n := 1 + m.IntN(4); n > 0; n-- {
		s = m.mutate(s)
	}
	return s[:min(len(s), maxMutated)]
}

func (m *Mutator) mutate(s string) string {
	from, to := m.span(s)
	switch m.IntN(7) {
	case 0:
		return s[:from] + s[to:]
	case 1:
		return s[:from] + string([]byte{byte(m.IntN(256))}) + s[min(from+1, len(s)):]
	case 2:
		other := m.any()
		a, b := m.span(other)
		return s[:from] + other[a:b] + s[from:]
	case 3:
		return s[:to] + s[from:]
	case 4:
		return s[:from] + m.tokens[m.IntN(len(m.tokens))] + s[to:]
	case 5:
		return s[:from] + strings.Repeat(s[from:to], 2+m.IntN(3)) + s[to:]
	}
	return s[:from] + m.tokens[m.IntN(len(m.tokens))] + s[from:]
}

// Run runs every parser on mutated texts, as its fuzz target does, but many
// times as fast.
func Run(t *testing.T, targets []Target) {
	execs := 5_000
	if text := os.Getenv(fuzzExecs); text != "" {
		var err error
		if execs, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", fuzzExecs, err)
		}
	}
	for _, p := range targets {
		t.Run(p.Name, func(t *testing.T) { p.run(t, execs) })
	}
}

func (p Target) run(t *testing.T, execs int) {
	m := New(p)
	var now string
	defer func() {
		if e := recover(); e != nil {
			t.Errorf("%q: panic: %v", now, e)
			panic(e)
		}
	}()
	valid := 0
	for range execs {
		if now = m.Next(); p.Holds(t, now) {
			valid++
			m.Keep(now)
		}
	}
	t.Logf("%d texts, %d of them valid", execs, valid)
}

// Fuzz is the fuzz target of the parser that has the name.
func Fuzz(f *testing.F, targets []Target, name string) {
	p := targets[slices.IndexFunc(targets, func(p Target) bool { return p.Name == name })]
	for _, s := range p.Seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) { p.Holds(t, text) })
}

// Inside fails the test where a mistake does not lie inside the text.
func Inside(t testing.TB, text string, err error) {
	t.Helper()
	e, ok := err.(*position.Error)
	if !ok {
		return
	}
	if lines := Lines(text); e.Line < 1 || e.Line > lines || e.Col < 1 {
		t.Fatalf("%q of %d lines: %v", text, lines, err)
	}
}

// Lines is the number of lines to a reader that takes every Unicode line break
// for one.
func Lines(text string) int {
	n := 1
	for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		n += strings.Count(text, end)
	}
	return n
}
