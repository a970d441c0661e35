// Package secret knows values that a build uses and nothing may keep, such as a
// token or a private key: where they come from, and how they are found in what was
// written.
//
//	Origin  where a value is, in the environment or a file; Read reads it
//	Text    a value with its name
//	Set     what finds values in bytes, as they are and in the usual encodings
//	Masker  a writer that passes on everything but them
//
// A [Set] finds a value that stands there as a whole: as it is, but for line ends
// after it; in base64 of both alphabets, wherever it stands among other bytes; in
// hexadecimal; with the escapes of URLs, JSON and shells. It does not find what was
// compressed, encrypted or taken to pieces. The package imports of b9 what tells
// holes from data.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/engine/internal/sparse"
)

// The lengths, in bytes, that a value may have without the line ends after it. What
// is shorter can't be told from what has nothing to do with it.
const (
	leastValue = 6
	mostValue  = 64 << 10
)

// Origin is where a value comes from: one of its fields is set.
type Origin struct {
	Env  string // name of a variable of the environment
	File string // path of a file: absolute, or below the home directory after ~/
}

// String names the place for people.
func (o Origin) String() string {
	if o.Env != "" {
		return "environment variable " + o.Env
	}
	return "file " + o.File
}

// Read returns the value. It is an error, which says nothing of it, where there is
// none, or where it is too short, too long, or one byte over and over.
func (o Origin) Read() ([]byte, error) {
	if o.Env != "" {
		value, ok := os.LookupEnv(o.Env)
		if !ok {
			return nil, fmt.Errorf("%s is not set: set it, and let it through where b9 is started by sudo (sudo --preserve-env=%s b9 ...)", o, o.Env)
		}
		return []byte(value), o.check([]byte(value))
	}
	value, err := readFile(o.File)
	if err != nil {
		return nil, err
	}
	return value, o.check(value)
}

func readFile(path string) ([]byte, error) {
	if below, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(home, below)
	}
	f, _, err := sparse.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, mostValue+8))
}

func (o Origin) check(value []byte) error {
	switch text := trimmed(value); {
	case len(text) == 0:
		return fmt.Errorf("%s is empty", o)
	case len(text) < leastValue:
		return fmt.Errorf("%s has fewer than %d bytes: what is so short can't be kept out of logs and images, for it stands anywhere; use a longer one", o, leastValue)
	case len(text) > mostValue:
		return fmt.Errorf("%s has more than %d bytes, which is too long for a secret", o, mostValue)
	case bytes.Count(text, text[:1]) == len(text):
		return fmt.Errorf("%s is one byte over and over, which stands anywhere: use another value", o)
	}
	return nil
}

// trimmed is a value without what ends a line, which is no part of what is secret.
func trimmed(value []byte) []byte { return bytes.TrimRight(value, "\r\n") }

// Text is a value with its name.
type Text struct {
	Name  string
	Value []byte
}

// Found is a place where a value was found.
type Found struct {
	Name string // of the value
	Form string // "" as it is; else such as "base64"
	At   int64  // offset in bytes
	Len  int    // in bytes
}

// ErrStop ends a search.
var ErrStop = errors.New("searched enough")
