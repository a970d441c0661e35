package builtins

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"b9/engine"
)

// look returns the host path of a file or directory that evaluation or
// linking is about to read, and notes that it does.
func (w *Workspace) look(rel string) string {
	full := filepath.Join(w.root, filepath.FromSlash(rel))
	l := engine.LookAt(full)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks = append(w.looks, l)
	return full
}

// Looks lists every file and directory that the calls so far have read, or
// have looked for in vain, each as it was before. It leaves out what only the
// steps read. Together with the options, the configuration and the embedded
// libraries that is all that evaluation depends on.
func (w *Workspace) Looks() []engine.Look {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.looks)
	slices.SortFunc(all, func(a, b engine.Look) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Sign, b.Sign), cmp.Compare(a.Age, b.Age))
	})
	// Of equal ones the youngest stays.
	return slices.CompactFunc(all, func(a, b engine.Look) bool { return a.Path == b.Path && a.Sign == b.Sign })
}

// Sources has a zero value of every [engine.Source] of this package.
func Sources() []engine.Source { return []engine.Source{&bootstrap{}, &sharedImage{}} }
