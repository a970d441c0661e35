package lang

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"go.starlark.net/starlark"

	"b9.build/b9/engine"
	"b9.build/b9/stdlib"
)

// maxFileSize bounds a build file or library, in bytes.
const maxFileSize = 4 << 20

// libraryPrefix begins the label and the identity of an embedded library.
const libraryPrefix = "@b9//"

// module is one build file or library. It is evaluated once, by the
// goroutine that claimed it; when done is closed it no longer changes.
type module struct {
	ws      *Workspace
	id      string // path below the root, or @b9//name.star
	base    Label  // what its labels and paths are relative to
	library bool   // embedded in b9

	done    chan struct{}
	globals starlark.StringDict
	targets map[string]*declaration
	order   []*declaration // the targets in the order of their calls
	unnamed []*declaration // the steps that are no targets, in the order of their calls
	errs    []*Error
	missing bool // there is no such file
	failed  bool // evaluation did not come to its end: targets may be missing
	calls   uint32
	told    bool                    // the user was warned of what is in vain in it
	members map[picked]*declaration // the steps that take a file out of a directory
	same    map[string]int          // how often Identity was asked for a text

	restsOn restsOn
	fates   []fate // of the targets by name, once they are gone, not nil then; see Workspace.Release

	call   Call                       // reused by every call of a built-in
	wanted map[string][]wantedName    // what load() statements ask for, by module label
	loads  map[string]engine.Position // where, by module label

	blockedOn *module         // the module whose evaluation it waits for; guarded by ws.mu
	blockedAt engine.Position // the load() statement
}

// wantedName is one symbol of a load() statement.
type wantedName struct {
	name string
	pos  engine.Position
}

const localKey = "module"

func moduleOf(thread *starlark.Thread) *module { return thread.Local(localKey).(*module) }

// claimLocked returns the module of that identity. The caller that gets mine
// must evaluate it and close its done channel. w.mu must be held.
func (w *Workspace) claimLocked(id string, base Label, library bool) (m *module, mine bool) {
	if m := w.modules[id]; m != nil {
		return m, false
	}
	m = &module{ws: w, id: id, base: base, library: library, done: make(chan struct{}), targets: map[string]*declaration{}}
	w.modules[id] = m
	return m, true
}

// ended reports whether the evaluation of the module has ended.
func (m *module) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

func (m *module) addTarget(d *declaration) {
	m.targets[d.name] = d
	m.order = append(m.order, d)
}

func (m *module) targetNames() []string {
	names := make([]string, len(m.order))
	for i, d := range m.order {
		names[i] = d.name
	}
	return names
}

// defaultTarget is what the file alone asks for: the target named like the
// file without its extension, else its only target.
func (m *module) defaultTarget() (*declaration, error) {
	stem := m.base.File[:len(m.base.File)-len(path.Ext(m.base.File))]
	if d := m.targets[stem]; d != nil {
		return d, nil
	}
	if len(m.order) == 1 {
		return m.order[0], nil
	}
	if len(m.order) == 0 {
		return nil, fmt.Errorf("%s has no targets", m.id)
	}
	return nil, fmt.Errorf("%s has no target %q that it could stand for: name one, such as %s (%s)",
		m.id, stem, m.order[0].label(), Listed(m.targetNames()))
}

// read returns the source text.
func (m *module) read() ([]byte, error) {
	if m.library {
		return stdlib.FS.ReadFile(m.id[len(libraryPrefix):])
	}
	return readSource(m.reads(m.id))
}

func readSource(name string) ([]byte, error) {
	st, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case st.Size() > maxFileSize:
		return nil, fmt.Errorf("it is larger than %d bytes", maxFileSize)
	}
	return os.ReadFile(name)
}
