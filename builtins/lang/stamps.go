package lang

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine"
)

// reads returns the host path of a file or directory that evaluation or
// linking is about to read, and notes that it does.
func (w *Workspace) reads(rel string) string {
	full := filepath.Join(w.root, filepath.FromSlash(rel))
	s := engine.StampOf(full)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stamps = append(w.stamps, s)
	return full
}

// Stamps lists every file and directory that the calls so far have read, or
// have looked for in vain, each as it was before. It leaves out what only the
// steps read. Together with the options, the configuration and the embedded
// libraries that is all that evaluation depends on.
func (w *Workspace) Stamps() []engine.Stamp {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := slices.Clone(w.stamps)
	slices.SortFunc(all, func(a, b engine.Stamp) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Sign, b.Sign), cmp.Compare(a.Age, b.Age))
	})
	// Of equal ones the youngest stays.
	return slices.CompactFunc(all, func(a, b engine.Stamp) bool { return a.Path == b.Path && a.Sign == b.Sign })
}
