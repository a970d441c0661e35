package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
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
// a settings file, which is made where it is missing. Everything else in it
// stays as its author wrote it; what can't be edited so is refused. A symbolic
// link stays one. Another process that edits it is waited for; tell is given a text
// about that one, once it lasts.
func EditRepository(ctx context.Context, path, name, location string, tell func(holder string)) error {
	if err := CheckRepositoryName(name); err != nil {
		return err
	}
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
	edited, err := editRepository(path, data, name, location)
	if err != nil {
		return err
	}
	return newfile.Write(path, mode, true, func(f *os.File) error {
		_, err := f.Write(edited)
		return errors.Join(err, f.Chmod(mode), newfile.Inherit(f)) // root may edit the settings of whom it runs for
	})
}

// editRepository edits the text of the file at path, and makes sure that it
// then says the same as before about everything else.
func editRepository(path string, text []byte, name, location string) ([]byte, error) {
	before, err := toml.Parse(path, string(text))
	if err != nil {
		return nil, err
	}
	at := findRepositories(text, before.Entries, name)
	if location == "" && at.entry == (toml.Span{}) {
		return nil, fmt.Errorf("%s: %s%s: the file %w", path, repositoriesPrefix, name, ErrNotSet)
	}
	edited := at.edit(text, name, location)
	after, err := toml.Parse(path, string(edited))
	if err != nil || !sets(after.Values, name, location) ||
		!reflect.DeepEqual(withRepository(before.Values, name, location), withRepository(after.Values, name, location)) {
		return nil, fmt.Errorf("%s: %s%s stands in a form that can't be edited here: change the file by hand", path, repositoriesPrefix, name)
	}
	return edited, nil
}

// sets reports whether the values say that of the repository.
func sets(values map[string]any, name, location string) bool {
	found, ok := toml.Lookup(values, "repositories", name).(string)
	return ok == (location != "") && found == location
}

// withRepository is a copy of values in which the repository is set, or not
// set, and no table of repositories is as good as an empty one.
func withRepository(values map[string]any, name, location string) map[string]any {
	all, table := map[string]any{}, map[string]any{}
	maps.Copy(all, values)
	before, _ := values["repositories"].(map[string]any)
	maps.Copy(table, before)
	if delete(table, name); location != "" {
		table[name] = location
	}
	all["repositories"] = table
	return all
}

// repositories is where they are in a text.
type repositories struct {
	entry, value toml.Span // of the one that is edited, zero if it is not there
	last         int       // behind the last line of the section, or behind its header; 0 for none
	dotted       bool      // they are keys of the form repositories.name
}

// findRepositories finds [repositories] and the name in it.
func findRepositories(text []byte, entries []toml.Entry, name string) repositories {
	var found repositories
	var table []string
	for _, e := range entries {
		if e.Kind != toml.KeyValue {
			if table = names(e.Keys); e.Kind == toml.Table && join(table) == "repositories" {
				found.last = lineEnd(text, e.Span.To)
			}
			continue
		}
		path := append(table[:len(table):len(table)], names(e.Keys)...)
		if len(path) != 2 || path[0] != "repositories" {
			continue
		}
		found.last, found.dotted = lineEnd(text, e.Span.To), len(table) == 0
		if path[1] == name {
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

func (r repositories) edit(text []byte, name, location string) []byte {
	quoted := strconv.Quote(location)
	if r.entry != (toml.Span{}) && location != "" {
		return splice(text, r.value, quoted)
	}
	if r.entry != (toml.Span{}) {
		start := bytes.LastIndexByte(text[:r.entry.From], '\n') + 1
		return splice(text, toml.Span{From: start, To: lineEnd(text, r.entry.To)}, "")
	}
	newline := "\n"
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		newline = "\r\n"
	}
	line, at := name+" = "+quoted+newline, r.last
	switch {
	case r.dotted:
		line = repositoriesPrefix + line
	case at == 0:
		at, line = len(text), "[repositories]"+newline+line
		if len(text) > 0 {
			line = newline + line
		}
	}
	if at > 0 && text[at-1] != '\n' {
		line = newline + line
	}
	return splice(text, toml.Span{From: at, To: at}, line)
}

func splice(text []byte, at toml.Span, with string) []byte {
	return append(append(append([]byte(nil), text[:at.From]...), with...), text[at.To:]...)
}
