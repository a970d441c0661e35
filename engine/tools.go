package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

type toolVersion struct{ name, version string }

// toolTable knows the versions of host programs. A program is asked once
// for each state of its file; the answers are kept in a disposable file.
type toolTable struct {
	mu    sync.Mutex
	store *store.Store
	known map[string]string // "path size mtime args" to version
	asked map[string]toolVersion
	dirty bool

	emulating sync.Mutex
	emulators map[string]found // by architecture
}

// toolsFile is the table's file, beside what the store keeps.
const toolsFile = "tools.json"

func newToolTable(st *store.Store) *toolTable {
	t := &toolTable{store: st, known: map[string]string{}, asked: map[string]toolVersion{}, emulators: map[string]found{}}
	if data, err := os.ReadFile(filepath.Join(st.Dir(), toolsFile)); err == nil {
		// A damaged table is forgotten: the programs are asked again.
		if json.Unmarshal(data, &t.known) != nil {
			t.known = map[string]string{}
		}
	}
	return t
}

func (t *toolTable) versions(ctx context.Context, tools []Tool) ([]toolVersion, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []toolVersion
	for _, p := range tools {
		v, ok := t.asked[p.Name]
		if !ok {
			var err error
			if v, err = t.ask(ctx, p); err != nil {
				return nil, err
			}
			t.asked[p.Name] = v
		}
		out = append(out, v)
	}
	return out, nil
}

func (t *toolTable) ask(ctx context.Context, p Tool) (toolVersion, error) {
	path, err := tool.Find(p.Name)
	if err != nil {
		return toolVersion{}, fmt.Errorf("%s is not installed on this machine (see `b9 doctor`): %w", p.Base(), err)
	}
	st, err := os.Stat(path)
	if err != nil {
		return toolVersion{}, err
	}
	id := fmt.Sprintf("%s %d %d %s", path, st.Size(), st.ModTime().UnixNano(), strings.Join(p.VersionArgs, " "))
	if v, ok := t.known[id]; ok {
		return toolVersion{p.Base(), v}, nil
	}
	v, err := p.Version(ctx, path)
	if err != nil {
		return toolVersion{}, err
	}
	t.known[id], t.dirty = v, true
	return toolVersion{p.Base(), v}, nil
}

// save writes the table. Losing it costs a few milliseconds.
func (t *toolTable) save() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dirty {
		return nil
	}
	data, err := json.Marshal(t.known)
	if err != nil {
		return err
	}
	t.dirty = false
	return t.store.WriteBeside(toolsFile, data)
}
