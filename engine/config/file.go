package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"b9.build/b9/engine/internal/toml"

	"b9.build/b9/engine/near"
)

// largestFile bounds what is read of a settings file, in bytes.
const largestFile = 1 << 20

// file reads one TOML layer: the user's, which may be missing, or the workspace's.
func (d *loader) file(path string, workspace bool) {
	if path == "" {
		return
	}
	data, err := readFile(path)
	if !workspace && errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		d.errs = append(d.errs, err)
		return
	}
	d.document(path, data, workspace)
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > largestFile || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a settings file: want a regular file of at most 1M", path)
	}
	return os.ReadFile(path)
}

// document assigns what a TOML text holds.
func (d *loader) document(path string, data []byte, workspace bool) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	doc, err := toml.Parse(path, string(data))
	if err != nil {
		d.errs = append(d.errs, err)
		return
	}
	w := fileWalk{loader: d, path: path, workspace: workspace, values: doc.Values, skip: map[string]bool{}}
	for _, e := range doc.Entries {
		w.entry(e)
	}
}

// fileWalk goes through the keys of one document in the order they stand in.
type fileWalk struct {
	*loader
	path      string
	workspace bool
	values    map[string]any
	table     []string        // the header that key-values belong to
	skip      map[string]bool // tables that an error was reported for
}

func (w *fileWalk) entry(e toml.Entry) {
	if e.Kind == toml.KeyValue {
		w.keyValue(w.table, e)
		return
	}
	var at source
	w.table, at = w.key(nil, e)
	if e.Kind == toml.Table {
		w.header(at)
	} else if !w.skipped(w.table) {
		w.leaf(at, w.table)
		w.skip[join(w.table)] = true
	}
}

// header checks that a table is a section of the schema.
func (w *fileWalk) header(at source) {
	name := join(w.table)
	if w.skipped(w.table) || w.isSection(name) {
		return
	}
	w.skip[name] = true
	if _, ok := w.byKey[name]; ok {
		w.leaf(at, w.table)
		return
	}
	w.fail(at, "unknown section [%s]%s", name, near.Hint(name, w.sections()))
}

func (w *fileWalk) keyValue(table []string, e toml.Entry) {
	path, at := w.key(table, e)
	if e.Value.Inline && w.isSection(join(path)) {
		for _, f := range e.Value.Fields {
			w.keyValue(path, f)
		}
		return
	}
	if !w.skipped(path) {
		w.leaf(at, path)
	}
}

func (w *fileWalk) leaf(at source, path []string) {
	w.assign(at, join(path), toml.Lookup(w.values, path...))
}

// key returns the whole path of a key and where its first part stands.
func (w *fileWalk) key(table []string, e toml.Entry) ([]string, source) {
	at := e.Keys[0].At
	p := source{origin: fmt.Sprintf("%s:%d", w.path, at.Line), at: at, dir: filepath.Dir(w.path), workspace: w.workspace}
	return append(table[:len(table):len(table)], names(e.Keys)...), p
}

func names(keys []toml.Key) []string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = k.Name
	}
	return all
}

// skipped reports whether path lies in a table that an error was reported for.
func (w *fileWalk) skipped(path []string) bool {
	for i := range path {
		if w.skip[join(path[:i+1])] {
			return true
		}
	}
	return false
}

func (d *loader) sections() []string {
	names := tables()
	for _, k := range d.keys {
		name, _, _ := strings.Cut(k, ".")
		if names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func join(path []string) string { return strings.Join(path, ".") }
