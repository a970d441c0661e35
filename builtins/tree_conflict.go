package builtins

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"b9.build/b9/builtins/lang"
)

// conflict finds the first two entries that can't be in one tree, as far as
// that can be told before anything is built: an entry below a file or a link,
// and one that a source directory has already. It names both.
func (t *makeTree) conflict(l *lang.Linked) error {
	at := map[string]*treeEntry{}
	var grafts []*treeEntry
	dirs := map[*treeEntry]string{}
	for i := range t.Entries {
		e := &t.Entries[i]
		if !e.Tree {
			at[e.Path] = e
		} else if dir, ok := l.SourcePath(entryRole(i)); ok {
			grafts = append(grafts, e)
			dirs[e] = dir
		}
	}
	for i := range t.Entries {
		e := &t.Entries[i]
		if above := e.belowLeaf(at); above != nil {
			return fmt.Errorf("%q is %s, so %q can't lie below it: %s and %s", above.Path, above.what(), e.Path, above.From, e.From)
		}
		for _, g := range grafts {
			if what := e.hits(g, dirs[g]); what != "" {
				return fmt.Errorf("two entries for %q: %s, and %s, which has a %s there", e.Path, e.From, g.From, what)
			}
		}
	}
	return nil
}

// belowLeaf is the file or link that the entry's path leads through, if any.
func (e *treeEntry) belowLeaf(at map[string]*treeEntry) *treeEntry {
	for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
		if above := at[dir]; above != nil && !above.Dir {
			return above
		}
	}
	return nil
}

func (e *treeEntry) what() string {
	if e.Link != "" {
		return "a link"
	}
	return "a file"
}

// hits says what a directory dir, which goes below g's path, has at the path
// of e or above it that e can't go with; "" is nothing.
func (e *treeEntry) hits(g *treeEntry, dir string) string {
	rel := e.Path
	if g.Path != "." {
		var below bool
		if rel, below = strings.CutPrefix(e.Path, g.Path+"/"); !below {
			return ""
		}
	}
	if e == g || rel == "." || e.Tree {
		return ""
	}
	info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(rel)))
	switch {
	case err != nil || info.IsDir() && e.Dir:
		return ""
	case info.IsDir():
		return "directory"
	}
	return "file or link"
}
