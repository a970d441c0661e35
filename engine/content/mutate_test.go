package content

import (
	"encoding/base64"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

// fuzzExecs is the variable that says how many texts TestMutations makes for
// each parser. The same number gives the same texts.
const fuzzExecs = "B9_FUZZ_EXECS"

// maxMutated is how long a mutated text may become, in bytes: what is long
// costs time and finds no more.
const maxMutated = 400

// mutator makes texts of texts: of those it began with and, as far as they are
// valid, of those it made.
type mutator struct {
	*rand.Rand
	pool   []string
	seeds  int // that many of the pool stay
	tokens []string
}

const mutatorPool = 4096

func newMutator(p parserTarget) *mutator {
	m := &mutator{Rand: rand.New(rand.NewPCG(2026, 9)), tokens: append(strings.Split(p.tokens, " "), "\n", "\n  ", " ", "  ", "\t")}
	for _, s := range p.seeds {
		if len(s) <= maxMutated {
			m.pool = append(m.pool, s)
		}
	}
	m.seeds = len(m.pool)
	return m
}

// keep makes a valid text one of those to begin with.
func (m *mutator) keep(s string) {
	if len(m.pool) < m.seeds+mutatorPool {
		m.pool = append(m.pool, s)
		return
	}
	m.pool[m.seeds+m.IntN(mutatorPool)] = s
}

func (m *mutator) any() string { return m.pool[m.IntN(len(m.pool))] }

// span is a random part of a text: from, up to and without to.
func (m *mutator) span(s string) (from, to int) {
	from = m.IntN(len(s) + 1)
	return from, from + m.IntN(min(len(s)-from, 40)+1)
}

func (m *mutator) next() string {
	s := m.any()
	for n := 1 + m.IntN(4); n > 0; n-- {
		s = m.mutate(s)
	}
	return s[:min(len(s), maxMutated)]
}

func (m *mutator) mutate(s string) string {
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

// TestMutations runs every parser on mutated texts, as its fuzz target does,
// but many times as fast.
func TestMutations(t *testing.T) {
	execs := 5_000
	if text := os.Getenv(fuzzExecs); text != "" {
		var err error
		if execs, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", fuzzExecs, err)
		}
	}
	for _, p := range parserTargets() {
		t.Run(p.name, func(t *testing.T) {
			m := newMutator(p)
			var now string
			defer func() {
				if e := recover(); e != nil {
					t.Errorf("%q: panic: %v", now, e)
					panic(e)
				}
			}()
			valid := 0
			for range execs {
				if now = m.next(); p.holds(t, now) {
					valid++
					m.keep(now)
				}
			}
			t.Logf("%d texts, %d of them valid", execs, valid)
		})
	}
}

func decodeBase64(r io.Reader) (string, error) {
	text, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, r))
	return string(text), err
}
