package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"b9/engine/near"
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

// document assigns what a TOML text holds. The library decodes it, which
// also checks it; a walk over its syntax tells where each key stands.
func (d *loader) document(path string, data []byte, workspace bool) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	var values map[string]any
	if err := toml.Unmarshal(data, &values); err != nil {
		d.errs = append(d.errs, syntaxError(path, err))
		return
	}
	w := fileWalk{loader: d, path: path, workspace: workspace, values: values, skip: map[string]bool{}}
	w.parser.Reset(data)
	for w.parser.NextExpression() {
		w.expression(w.parser.Expression())
	}
	if err := w.parser.Error(); err != nil {
		d.errs = append(d.errs, syntaxError(path, err))
	}
}

func syntaxError(path string, err error) error {
	reason := strings.TrimPrefix(err.Error(), "toml: ")
	var at *toml.DecodeError
	if errors.As(err, &at) {
		line, col := at.Position()
		return fmt.Errorf("%s:%d:%d: %s", path, line, col, reason)
	}
	return fmt.Errorf("%s: %s", path, reason)
}

// fileWalk goes through the keys of one document in the order they stand in.
type fileWalk struct {
	*loader
	path      string
	workspace bool
	parser    unstable.Parser
	values    map[string]any
	table     []string        // the header that key-values belong to
	skip      map[string]bool // tables that an error told of
}

func (w *fileWalk) expression(n *unstable.Node) {
	switch n.Kind {
	case unstable.Table:
		var at place
		w.table, at = w.key(nil, n)
		w.header(at)
	case unstable.ArrayTable:
		var at place
		w.table, at = w.key(nil, n)
		if !w.skipped(w.table) {
			w.leaf(at, w.table)
			w.skip[join(w.table)] = true
		}
	case unstable.KeyValue:
		w.keyValue(w.table, n)
	}
}

// header checks that a table is a section of the schema.
func (w *fileWalk) header(at place) {
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

func (w *fileWalk) keyValue(table []string, n *unstable.Node) {
	path, at := w.key(table, n)
	value := n.Value()
	if value.Kind == unstable.InlineTable && w.isSection(join(path)) {
		for it := value.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				w.keyValue(path, it.Node())
			}
		}
		return
	}
	if !w.skipped(path) {
		w.leaf(at, path)
	}
}

func (w *fileWalk) leaf(at place, path []string) {
	w.assign(at, join(path), lookup(w.values, path))
}

// key returns the whole path of a key and the place of its first part.
func (w *fileWalk) key(table []string, n *unstable.Node) ([]string, place) {
	path := append([]string(nil), table...)
	p := place{origin: w.path, at: w.path, dir: filepath.Dir(w.path), workspace: w.workspace}
	first := true
	for it := n.Key(); it.Next(); first = false {
		path = append(path, string(it.Node().Data))
		if first {
			start := w.parser.Shape(it.Node().Raw).Start
			p.origin = fmt.Sprintf("%s:%d", w.path, start.Line)
			p.at = fmt.Sprintf("%s:%d:%d", w.path, start.Line, start.Column)
		}
	}
	return path, p
}

// skipped reports whether path lies in a table that an error told of.
func (w *fileWalk) skipped(path []string) bool {
	for i := range path {
		if w.skip[join(path[:i+1])] {
			return true
		}
	}
	return false
}

func (d *loader) sections() []string {
	names := []string{strings.TrimSuffix(optionsPrefix, "."), strings.TrimSuffix(repositoriesPrefix, ".")}
	for _, k := range d.keys {
		name, _, _ := strings.Cut(k, ".")
		if names[len(names)-1] != name {
			names = append(names, name)
		}
	}
	return names
}

func lookup(values map[string]any, path []string) any {
	var v any = values
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func join(path []string) string { return strings.Join(path, ".") }
