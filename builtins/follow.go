package builtins

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// follows reports whether the link at that path of the tree is followed.
func (t *makeTree) follows(at string) bool { return slices.Contains(t.Follow, at) }

// followLinks gives every link that is followed an entry of its own, with what
// the link leads to as a source. Links in a directory that was followed may be
// followed, too, after it.
func (t *makeTree) followLinks(l *lang.Linked) error {
	for i, at := range t.Follow {
		if slices.ContainsFunc(t.Entries, func(e treeEntry) bool { return e.Path == at && e.Input }) {
			continue // a source, which is read through its link
		}
		link, err := t.linkAt(l, at)
		if err != nil {
			return fmt.Errorf("follow: %w", err)
		}
		ref, err := l.Source(link)
		if err != nil {
			return fmt.Errorf("follow: %q: %w", at, err)
		}
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			return err
		}
		l.Inputs = append(l.Inputs, engine.Input{Role: entryRole(len(t.Entries)), Ref: ref})
		t.Entries = append(t.Entries, treeEntry{
			Path: at, Input: true, Tree: out.Kind == store.Tree, Mode: out.Mode, From: fmt.Sprintf("follow[%d]", i),
		})
	}
	return nil
}

// linkAt is the symbolic link of a source directory that the tree has at that path.
func (t *makeTree) linkAt(l *lang.Linked, at string) (string, error) {
	for i := range t.Entries {
		e := &t.Entries[i]
		dir, ok := l.SourcePath(entryRole(i))
		rel, below := strings.CutPrefix(at, e.Path+"/")
		if e.Path == "." {
			rel, below = at, true
		}
		if !ok || !e.Tree || !below {
			continue
		}
		link := filepath.Join(dir, filepath.FromSlash(rel))
		if info, err := os.Lstat(link); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return link, nil
		}
	}
	return "", fmt.Errorf("%q is no symbolic link of a source directory", at)
}
