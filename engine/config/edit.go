package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
	"golang.org/x/sys/unix"
)

// ErrNotSet is wrapped by the error of taking out what a file does not set.
var ErrNotSet = errors.New("does not set it")

// EditRepository sets, or with an empty location takes out, one repository in
// a settings file, which is made where it is missing. Everything else in it
// stays as its author wrote it; what can't be edited so is refused. A symbolic
// link stays one.
func EditRepository(path, name, location string) error {
	if err := CheckRepositoryName(name); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	mode := fs.FileMode(0o644)
	data, err := readFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	edited, err := editRepository(data, name, location)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return renameio.WriteFile(path, edited, mode, renameio.WithTempDir(filepath.Dir(path)), renameio.WithStaticPermissions(mode))
}

func lockDir(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// editRepository edits a text, and makes sure that it then says the same as
// before about everything else.
func editRepository(text []byte, name, location string) ([]byte, error) {
	var before, after map[string]any
	if err := toml.Unmarshal(text, &before); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "toml: "))
	}
	at := findRepositories(text, name)
	if location == "" && at.entry == (span{}) {
		return nil, fmt.Errorf("%s%s: the file %w", repositoriesPrefix, name, ErrNotSet)
	}
	edited := at.edit(text, name, location)
	err := toml.Unmarshal(edited, &after)
	if err != nil || !reflect.DeepEqual(withRepository(before, name, location), withRepository(after, name, location)) || !sets(after, name, location) {
		return nil, fmt.Errorf("%s%s stands in a form that can't be edited here: change the file by hand", repositoriesPrefix, name)
	}
	return edited, nil
}

// sets reports whether the values say that of the repository.
func sets(values map[string]any, name, location string) bool {
	found, ok := lookup(values, []string{"repositories", name}).(string)
	return ok == (location != "") && found == location
}

// withRepository is a copy of values in which the repository is set, or not
// set, and no table of repositories is as good as an empty one.
func withRepository(values map[string]any, name, location string) map[string]any {
	all := maps.Clone(values)
	if all == nil {
		all = map[string]any{}
	}
	table, _ := all["repositories"].(map[string]any)
	table = maps.Clone(table)
	if table == nil {
		table = map[string]any{}
	}
	if delete(table, name); location != "" {
		table[name] = location
	}
	all["repositories"] = table
	return all
}

// span is a part of a text, from one offset to before another.
type span struct{ from, to int }

// repositories is where they are in a text.
type repositories struct {
	entry, value span // of the one that is edited, zero if it is not there
	last         int  // behind the last line of the section, or behind its header; 0 for none
	dotted       bool // they are keys of the form repositories.name
}

// findRepositories looks for [repositories] and for the name in it.
func findRepositories(text []byte, name string) repositories {
	var found repositories
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		n := p.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			var end int
			if table, end = keyOf(nil, n); n.Kind == unstable.Table && join(table) == "repositories" {
				found.last = lineEnd(text, end)
			}
		case unstable.KeyValue:
			path, _ := keyOf(table, n)
			if len(path) != 2 || path[0] != "repositories" {
				continue
			}
			at := span{int(n.Raw.Offset), int(n.Raw.Offset + n.Raw.Length)}
			found.last, found.dotted = lineEnd(text, at.to), len(table) == 0
			if path[1] == name {
				raw := n.Value().Raw
				found.entry, found.value = at, span{int(raw.Offset), int(raw.Offset + raw.Length)}
			}
		}
	}
	return found
}

// keyOf returns a key below a table, and the offset behind it.
func keyOf(table []string, n *unstable.Node) (path []string, end int) {
	path = append(path, table...)
	for it := n.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		end = int(it.Node().Raw.Offset + it.Node().Raw.Length)
	}
	return path, end
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
	if r.entry != (span{}) && location != "" {
		return splice(text, r.value, quoted)
	}
	if r.entry != (span{}) {
		start := bytes.LastIndexByte(text[:r.entry.from], '\n') + 1
		return splice(text, span{start, lineEnd(text, r.entry.to)}, "")
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
	return splice(text, span{at, at}, line)
}

func splice(text []byte, at span, with string) []byte {
	return append(append(append([]byte(nil), text[:at.from]...), with...), text[at.to:]...)
}
