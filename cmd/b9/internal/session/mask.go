package session

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"b9.build/b9/engine/container"
)

// leastSecret is the length in bytes from which a text is masked. A shorter one
// would turn up in what has nothing to do with it.
const leastSecret = 4

// mask returns to with writers in which the secrets are replaced, and what writes
// the rest. A terminal is left as it is: who sits there knows.
func mask(to container.IO, secrets []string) (container.IO, func() error) {
	var words [][]byte
	for _, s := range secrets {
		if len(s) >= leastSecret {
			words = append(words, []byte(s))
		}
	}
	if len(words) == 0 || to.TTY != nil {
		return to, func() error { return nil }
	}
	// The longest first: one may be part of another.
	slices.SortFunc(words, func(a, b []byte) int { return len(b) - len(a) })
	var made []*masker
	wrap := func(w io.Writer) io.Writer {
		if w == nil {
			return nil
		}
		m := &masker{to: w, secrets: words}
		made = append(made, m)
		return m
	}
	if to.Stdout == to.Stderr { // and must stay one, which one goroutine uses
		to.Stdout = wrap(to.Stdout)
		to.Stderr = to.Stdout
	} else {
		to.Stdout, to.Stderr = wrap(to.Stdout), wrap(to.Stderr)
	}
	return to, func() error {
		var errs []error
		for _, m := range made {
			errs = append(errs, m.flush())
		}
		return errors.Join(errs...)
	}
}

// masker writes what it is given, with *** in place of the secrets. It keeps
// back an end that may be the beginning of one.
type masker struct {
	to      io.Writer
	secrets [][]byte // the longest first, none empty
	kept    []byte
}

// Write implements io.Writer.
func (m *masker) Write(p []byte) (int, error) {
	m.kept = append(m.kept, p...)
	for {
		at, length := m.find()
		if at < 0 {
			break
		}
		text := append(m.kept[:at:at], "***"...)
		m.kept = m.kept[at+length:]
		if _, err := m.to.Write(text); err != nil {
			return 0, err
		}
	}
	sure := len(m.kept) - m.open()
	text := m.kept[:sure]
	m.kept = bytes.Clone(m.kept[sure:])
	if len(text) == 0 {
		return len(p), nil
	}
	_, err := m.to.Write(text)
	return len(p), err
}

// find returns where the first secret begins, -1 for none, and its length.
func (m *masker) find() (at, length int) {
	at = -1
	for _, s := range m.secrets {
		if i := bytes.Index(m.kept, s); i >= 0 && (at < 0 || i < at) {
			at, length = i, len(s)
		}
	}
	return at, length
}

// open is how many bytes at the end may be the beginning of a secret.
func (m *masker) open() int {
	most := 0
	for _, s := range m.secrets {
		for n := min(len(s)-1, len(m.kept)); n > most; n-- {
			if bytes.HasSuffix(m.kept, s[:n]) {
				most = n
			}
		}
	}
	return most
}

// flush writes what was kept back.
func (m *masker) flush() error {
	if len(m.kept) == 0 {
		return nil
	}
	_, err := m.to.Write(m.kept)
	m.kept = nil
	return err
}
