package lang

import (
	"errors"
	"fmt"
	"strconv"

	"go.starlark.net/starlark"
	"go.starlark.net/starlarkstruct"

	"b9.build/b9/engine"
)

// What one value may hold when something walks through all of it at once,
// where no limit could stop the walk: becoming text, being frozen. A value
// that occurs in several places counts in each, as the walk visits it there.
const (
	maxValueDepth = 1000
	maxTextParts  = 2_000_000
	maxTextBytes  = 64 << 20
	maxKeptParts  = 5_000_000
)

var errTooLarge = errors.New("it is too large")

// measure walks a value within limits.
type measure struct {
	parts, bytes int  // what is left of the limits
	handles      bool // whether a handle may be part of it
}

// CheckText tells why values must not become text: they are too large or too
// deep, or there is a handle in them, unless handles says that one may be.
func CheckText(values []starlark.Value, handles bool) error {
	m := measure{parts: maxTextParts, bytes: maxTextBytes, handles: handles}
	return m.elements(starlark.Tuple(values), 0)
}

// checkKept tells why the globals of a file are too large to be kept.
func checkKept(globals starlark.StringDict) error {
	m := measure{parts: maxKeptParts, bytes: 1 << 62, handles: true}
	for name, v := range globals {
		if err := m.walk(v, 0); err != nil {
			return fmt.Errorf("the value of %s: %w", name, err)
		}
	}
	return nil
}

func (m *measure) walk(v starlark.Value, depth int) error {
	if m.parts--; m.parts < 0 {
		return errTooLarge
	}
	if depth > maxValueDepth {
		return fmt.Errorf("it is nested more than %d deep", maxValueDepth)
	}
	switch v := v.(type) {
	case starlark.String:
		m.bytes -= len(v)
	case starlark.Bytes:
		m.bytes -= 4 * len(v)
	case *Handle:
		if !m.handles {
			return notText(v)
		}
	case *starlark.Dict:
		return m.dict(v, depth+1)
	case *starlark.Set, *starlark.List, starlark.Tuple:
		return m.elements(v.(starlark.Iterable), depth+1)
	case *starlarkstruct.Struct:
		return m.attributes(v, depth+1)
	}
	if m.bytes < 0 {
		return errTooLarge
	}
	return nil
}

func (m *measure) dict(d *starlark.Dict, depth int) error {
	for key, value := range d.Entries() {
		for _, v := range [...]starlark.Value{key, value} {
			if err := m.walk(v, depth); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *measure) elements(list starlark.Iterable, depth int) error {
	for v := range starlark.Elements(list) {
		if err := m.walk(v, depth); err != nil {
			return err
		}
	}
	return nil
}

func (m *measure) attributes(s *starlarkstruct.Struct, depth int) error {
	for _, name := range s.AttrNames() {
		v, err := s.Attr(name)
		if err != nil {
			return err
		}
		if err := m.walk(v, depth); err != nil {
			return err
		}
	}
	return nil
}

// MaxText bounds a file that is held in memory as text, in bytes.
const MaxText = 16 << 20

// Text is a value as text: a string as it is, true or false for a bool, and
// anything else as a build file writes it.
func Text(v starlark.Value) string {
	switch v := v.(type) {
	case starlark.String:
		return string(v)
	case starlark.Bool:
		return strconv.FormatBool(bool(v))
	}
	return v.String()
}

// InputText reads the input of that role as text, in an action's Run. One of more
// than MaxText bytes is an error.
func InputText(job *engine.Job, role string) (string, error) {
	data, err := job.Input(role).ReadAll(MaxText)
	if err != nil {
		return "", fmt.Errorf("%s: %w", role, err)
	}
	return string(data), nil
}
