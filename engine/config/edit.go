package config

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/internal/toml"
)

// ErrNotSet is wrapped by the error of removing what a file does not set.
var ErrNotSet = errors.New("does not set it")

// WriteNew writes a new settings file, or another text that a person goes on with. It
// appears whole and on the disk, or not at all. What has the name stays: fs.ErrExist.
func WriteNew(path, text string, mode fs.FileMode) error {
	return newfile.WriteNew(path, mode, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
}

// EditRepository sets, or with an empty location removes, one repository in
// a settings file, as [Set] sets a setting.
func EditRepository(ctx context.Context, path, name, location string, tell func(holder string)) error {
	if err := CheckRepositoryName(name); err != nil {
		return err
	}
	c := change{key: []string{"repositories", name}, value: location}
	if location == "" {
		c.value = nil
	}
	return edit(ctx, path, c, tell)
}

// Set sets one setting in a settings file, which is made where it is missing, to a
// value in the form that flags have. Everything else in the file stays as its author
// wrote it, comments, order and mistakes; what can't be edited so is refused, and
// so is a value that [Load] would refuse there: workspace says that the file is that
// of a workspace. A symbolic link stays one. Another process that edits the file is waited for;
// tell is given a text about that one, once it lasts.
func Set(ctx context.Context, path, key, value string, workspace bool, tell func(holder string)) error {
	v, err := check(path, key, value, workspace, nil)
	if err != nil {
		return err
	}
	section, name, _ := strings.Cut(key, ".")
	return edit(ctx, path, change{key: []string{section, name}, value: v}, tell)
}

// Check says why [Set] refuses a value, or nil; location is that of [Layers].
func Check(path, key, value string, workspace bool, location func(string) error) error {
	_, err := check(path, key, value, workspace, location)
	return err
}

// check is the value as TOML has it: int64, float64, bool, string or []any.
func check(path, key, value string, workspace bool, location func(string) error) (any, error) {
	if !utf8.ValidString(value) {
		return nil, fmt.Errorf("%s: %q is not UTF-8", key, value)
	}
	d := newLoader()
	d.location = location
	d.assign(source{at: position.Position{File: key}, dir: filepath.Dir(path), workspace: workspace}, key, text(value))
	if len(d.errs) > 0 {
		return nil, cmp.Or(errors.Unwrap(d.errs[0]), d.errs[0]) // without the place: the caller's is a command line
	}
	f, ok := d.byKey[key]
	if !ok {
		return value, nil // of options, repositories and sources
	}
	switch v := f.pointer(d.config).(type) {
	case *int:
		return int64(*v), nil
	case *float64:
		return *v, nil
	case *bool:
		return *v, nil
	case *[]string:
		list := make([]any, len(*v))
		for i, e := range *v {
			list[i] = e
		}
		return list, nil
	}
	return value, nil
}

// edit makes one change to the file at path.
func edit(ctx context.Context, path string, c change, tell func(holder string)) error {
	if err := newfile.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	lock, err := flock.Patience{Tell: tell, Most: flock.Moments}.Open(ctx, filepath.Dir(path), os.O_RDONLY, flock.Exclusive)
	if err != nil {
		return err
	}
	defer lock.Close()
	mode := fs.FileMode(0o644)
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	edited, err := c.apply(path, data)
	if err != nil || bytes.Equal(edited, data) {
		return err
	}
	return newfile.Write(path, mode, true, func(f *os.File) error {
		_, err := f.Write(edited)
		return errors.Join(err, f.Chmod(mode), newfile.Inherit(f)) // root may edit the settings of whom it runs for
	})
}

// change is a change of one key.
type change struct {
	key   []string // the section and the name
	value any      // as TOML has it; nil takes the key out
}

// apply edits the text of the file at path, and makes sure that it then says the
// same as before about everything else.
func (c change) apply(path string, text []byte) ([]byte, error) {
	before, err := toml.Parse(path, string(text))
	if err != nil {
		return nil, err
	}
	at := c.find(text, before.Entries)
	if c.value == nil && at.entry == (toml.Span{}) {
		return nil, fmt.Errorf("%s: %s: the file %w", path, join(c.key), ErrNotSet)
	}
	edited := at.edit(text, c)
	after, err := toml.Parse(path, string(edited))
	if err != nil || literal(toml.Lookup(after.Values, c.key...)) != literal(c.value) || !reflect.DeepEqual(c.in(before.Values), c.in(after.Values)) {
		return nil, fmt.Errorf("%s: %s stands in a form that can't be edited here: change the file by hand", path, join(c.key))
	}
	return edited, nil
}

// in is a copy of values with the change, in which no section is as good as an
// empty one.
func (c change) in(values map[string]any) map[string]any {
	all, table := map[string]any{}, map[string]any{}
	maps.Copy(all, values)
	before, ok := values[c.key[0]].(map[string]any)
	if values[c.key[0]] != nil && !ok {
		return all // the change is not in it
	}
	maps.Copy(table, before)
	if delete(table, c.key[1]); c.value != nil {
		table[c.key[1]] = c.value
	}
	all[c.key[0]] = table
	return all
}

// place is where a key is in a text.
type place struct {
	entry, value toml.Span // zero if it is not there
	last         int       // behind the last line of the section, or behind its header; 0 for none
	dotted       bool      // its keys are of the form section.name
}

// find finds the section and the name in it.
func (c change) find(text []byte, entries []toml.Entry) place {
	var found place
	var table []string
	for _, e := range entries {
		if e.Kind != toml.KeyValue {
			if table = names(e.Keys); e.Kind == toml.Table && join(table) == c.key[0] {
				found.last = lineEnd(text, e.Span.To)
			}
			continue
		}
		path := append(table[:len(table):len(table)], names(e.Keys)...)
		if len(path) == 1 && path[0] == c.key[0] {
			for _, f := range e.Value.Fields {
				if slices.Equal(names(f.Keys), c.key[1:]) {
					found.entry, found.value = f.Span, f.Value.Span
				}
			}
		}
		if len(path) != 2 || path[0] != c.key[0] {
			continue
		}
		found.last, found.dotted = lineEnd(text, e.Span.To), len(table) == 0
		if path[1] == c.key[1] {
			found.entry, found.value = e.Span, e.Value.Span
		}
	}
	return found
}

// lineEnd is the offset behind the line that an offset lies in.
func lineEnd(text []byte, at int) int {
	if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

func (p place) edit(text []byte, c change) []byte {
	written := literal(c.value)
	if p.entry != (toml.Span{}) && c.value != nil {
		return splice(text, p.value, written)
	}
	if p.entry != (toml.Span{}) {
		start := bytes.LastIndexByte(text[:p.entry.From], '\n') + 1
		return splice(text, toml.Span{From: start, To: lineEnd(text, p.entry.To)}, "")
	}
	newline := "\n"
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		newline = "\r\n"
	}
	line, at := c.key[1]+" = "+written+newline, p.last
	switch {
	case p.dotted:
		line = c.key[0] + "." + line
	case at == 0:
		at, line = len(text), "["+c.key[0]+"]"+newline+line
		if len(text) > 0 {
			line = newline + line
		}
	}
	if at > 0 && text[at-1] != '\n' {
		line = newline + line
	}
	return splice(text, toml.Span{From: at, To: at}, line)
}

// literal is a value as TOML writes it.
func literal(value any) string {
	switch v := value.(type) {
	case string:
		return quote(v)
	case float64:
		if s := strconv.FormatFloat(v, 'f', -1, 64); strings.Contains(s, ".") {
			return s
		}
		return strconv.FormatFloat(v, 'f', 1, 64)
	case []any:
		items := make([]string, len(v))
		for i, e := range v {
			items[i] = literal(e)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	return fmt.Sprint(value)
}

// quote is a basic string of TOML, whose escapes are not those of Go.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func splice(text []byte, at toml.Span, with string) []byte {
	return append(append(append([]byte(nil), text[:at.From]...), with...), text[at.To:]...)
}
