package secret

import (
	"bytes"
	"io"
)

// mask stands in place of what is masked.
const mask = "***"

// Masker writes what it is given, with *** in place of what a set finds, also where
// that came in several pieces. It keeps back an end that may be the beginning of
// one, which [Masker.Flush] writes. It is for one goroutine.
type Masker struct {
	set  *Set
	to   io.Writer
	kept []byte
}

// NewMasker returns a masker that writes to w.
func NewMasker(set *Set, w io.Writer) *Masker { return &Masker{set: set, to: w} }

// Write implements io.Writer.
func (m *Masker) Write(p []byte) (int, error) {
	m.kept = append(m.kept, p...)
	return len(p), m.pass(m.set.open(m.kept))
}

// Flush writes what was kept back.
func (m *Masker) Flush() error { return m.pass(len(m.kept)) }

// pass writes what begins before sure, from where on nothing is certain yet.
func (m *Masker) pass(sure int) error {
	var out []byte
	done := 0
	for done < sure {
		at, w := m.set.find(m.kept, done)
		if at < 0 || at >= sure {
			break
		}
		out = append(append(out, m.kept[done:at]...), mask...)
		done = at + len(w.text)
	}
	if done < sure {
		out = append(out, m.kept[done:sure]...)
		done = sure
	}
	m.kept = bytes.Clone(m.kept[done:])
	if len(out) == 0 {
		return nil
	}
	_, err := m.to.Write(out)
	return err
}
