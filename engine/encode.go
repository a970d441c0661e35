package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Actions is a table of kinds of actions: from what Kind returns to a function
// that makes a zero value of the type, which may have other kinds, too. It is how
// a step is named outside of this process.
type Actions map[string]func() Action

// ownActions are the actions of this package.
func ownActions() Actions {
	return Actions{
		(&FileSource{}).Kind(): func() Action { return &FileSource{} },
		(&TreeSource{}).Kind(): func() Action { return &TreeSource{} },
	}
}

// encodedAction is an action on its way to another process.
type encodedAction struct {
	Kind   string          `json:"kind"`
	Fields json.RawMessage `json:"fields"`
}

// EncodeAction renders an action as JSON: its kind and all its fields, those
// that are in no key included. Equal actions give equal bytes, and what
// [DecodeAction] makes of them has the same key. Fields that are not exported,
// and values that JSON has not (functions, interfaces, infinities), are errors.
func EncodeAction(a Action) ([]byte, error) {
	fields, err := encodeFields(a)
	if err != nil {
		return nil, err
	}
	return json.Marshal(encodedAction{a.Kind(), fields})
}

// DecodeAction reads what EncodeAction wrote. A kind that is not in the table
// and a field that the kind does not have are errors: they were written by
// another b9.
func DecodeAction(table Actions, data []byte) (Action, error) {
	var e encodedAction
	if err := decodeStrictly(data, &e); err != nil {
		return nil, fmt.Errorf("encoded action: %w", err)
	}
	return decodeFields(table, e.Kind, e.Fields)
}

func encodeFields(a Action) ([]byte, error) {
	v, err := mapStrings(reflect.ValueOf(a), escapeText)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", a, err)
	}
	data, err := json.Marshal(v.Interface())
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", a, err)
	}
	return data, nil
}

func decodeFields(table Actions, kind string, fields []byte) (Action, error) {
	zero, ok := table[kind]
	if !ok {
		return nil, fmt.Errorf("unknown kind of action %q: it is of another b9", kind)
	}
	a := zero()
	if err := decodeStrictly(fields, a); err != nil {
		return nil, fmt.Errorf("decode %q: %w", kind, err)
	}
	if bytes.ContainsRune(fields, utf8.RuneError) {
		v, err := mapStrings(reflect.ValueOf(a), unescapeText)
		if err != nil {
			return nil, fmt.Errorf("decode %q: %w", kind, err)
		}
		a, _ = v.Interface().(Action)
	}
	if a.Kind() != kind {
		return nil, fmt.Errorf("decode %q: its fields make it %q", kind, a.Kind())
	}
	return a, nil
}

// decodeStrictly reads one JSON value and nothing else.
func decodeStrictly(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more behind it")
	}
	return nil
}

// JSON is UTF-8, and a text of a build file need not be. A byte that is none is
// written as U+FFFD and two hexadecimal digits, and U+FFFD itself twice.
const escape = string(utf8.RuneError)

func escapeText(s string) (string, error) {
	if utf8.ValidString(s) && !strings.Contains(s, escape) {
		return s, nil
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "%s%02x", escape, s[0])
		case r == utf8.RuneError:
			b.WriteString(escape + escape)
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String(), nil
}

func unescapeText(s string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, escape)
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if s, found = strings.CutPrefix(rest, escape); found {
			b.WriteString(escape)
			continue
		}
		n, err := strconv.ParseUint(rest[:min(2, len(rest))], 16, 8)
		if err != nil || len(rest) < 2 {
			return "", fmt.Errorf("%q: bad escape", s)
		}
		b.WriteByte(byte(n))
		s = rest[2:]
	}
}

// copier copies plain values and changes every string on the way. It keeps the
// first error, and what it makes after that means nothing.
type copier struct {
	change func(string) (string, error)
	err    error
}

// mapStrings returns a copy of v in which change was applied to every string.
func mapStrings(v reflect.Value, change func(string) (string, error)) (reflect.Value, error) {
	c := copier{change: change}
	out := c.copy(v, "")
	return out, c.err
}

func (c *copier) fail(at string, err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("%s%w", at, err)
	}
}

// copy copies v, which lies at the path at, for messages. The copy shares with v
// what holds no string.
func (c *copier) copy(v reflect.Value, at string) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		s, err := c.change(v.String())
		c.fail(at, err)
		out.SetString(s)
	case reflect.Pointer:
		if !v.IsNil() {
			out.Set(reflect.New(v.Type().Elem()))
			out.Elem().Set(c.copy(v.Elem(), at))
		}
	case reflect.Struct:
		c.copyFields(out, v, at)
	case reflect.Slice, reflect.Array:
		c.copyItems(out, v, at)
	case reflect.Map:
		if !v.IsNil() {
			out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		}
		for key, value := range v.Seq2() {
			out.SetMapIndex(c.copy(key, at), c.copy(value, fmt.Sprintf("%s[%v]: ", at, key)))
		}
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		c.fail(at, fmt.Errorf("a %s is no plain value", v.Type()))
	default:
		out.Set(v)
	}
	return out
}

func (c *copier) copyFields(out, v reflect.Value, at string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			c.fail(at, fmt.Errorf("field %s.%s is not exported", v.Type(), f.Name))
			return
		}
		out.Field(i).Set(c.copy(v.Field(i), at+f.Name+": "))
	}
}

func (c *copier) copyItems(out, v reflect.Value, at string) {
	out.Set(v)
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return
	}
	if v.Kind() == reflect.Slice && !v.IsNil() {
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
	}
	for i := range v.Len() {
		out.Index(i).Set(c.copy(v.Index(i), fmt.Sprintf("%s[%d]: ", at, i)))
	}
}
