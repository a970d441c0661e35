package files

import (
	"context"
	"path"
	"strings"

	"b9.build/b9/cmd/b9/internal/build"
	"b9.build/b9/cmd/b9/internal/session"
)

// maxCompleted bounds how many names of a directory are offered.
const maxCompleted = 1000

// Complete lists the places that begin as begun does, WHAT:/PATH: what is in the
// directory as far as it is named. Nothing is built for it and nobody elsewhere is asked,
// and what can't be read has no places.
func Complete(ctx context.Context, p *session.Program, begun string) []string {
	dir := begun[:strings.LastIndexByte(begun, '/')+1]
	o := newOpener(p)
	o.build = o.build.Here()
	if what, _ := splitPlace(begun); !o.isThere(ctx, what) {
		return nil
	}
	var list []string
	_ = o.each(ctx, []string{dir}, func(_ context.Context, at *place) error {
		entries, err := at.files.ReadDir(at.path)
		for _, e := range entries {
			name := dir + e.Name()
			if e.IsDir() {
				name += "/"
			}
			if strings.HasPrefix(name, begun) && len(list) < maxCompleted {
				list = append(list, name)
			}
		}
		return err
	})
	return list
}

// isThere reports whether a place can be opened without a build.
func (o *opener) isThere(ctx context.Context, what string) bool {
	if file, err := o.Path(what); err == nil && !strings.HasPrefix(what, "//") && (isFile(file) || isDir(file)) {
		return true
	}
	if file, err := o.Path(cutLast(what)[0]); err == nil && isFile(file) && path.Ext(file) != ".star" {
		return true // a partition of a disk
	}
	s, err := o.Open(o.build.Configure)
	if err != nil {
		return false
	}
	defer s.Close()
	label := what
	if cut := cutLast(label); strings.Contains(cut[0], ":") {
		label = cut[0]
	}
	return build.IsDone(ctx, s, o.build, label)
}
