package files

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"b9.build/b9/engine/near"
)

// explain words an error about a path in the image. Of a path that is not there
// it says where it ends, and which name is near.
func (p *place) explain(file string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.missing(file)
	case errors.Is(err, syscall.ENOTDIR):
		err = errors.New("a part of the path is no directory")
	case errors.Is(err, syscall.ELOOP):
		err = fmt.Errorf("the path leads through too many symbolic links")
	}
	return fmt.Errorf("%s:%s: %w", p.what, printable(slashed(file)), err)
}

func (p *place) missing(file string) error {
	dir, parts := ".", strings.Split(file, "/")
	for i, name := range parts {
		next := path.Join(dir, name)
		if _, err := p.files.Stat(next); err == nil {
			dir = next
			continue
		}
		if target, err := p.files.ReadLink(next); err == nil {
			return fmt.Errorf("%s:%s: %s is a link to %s, which is not there", p.what, printable(slashed(file)), printable(slashed(next)), printable(target))
		}
		hint := ""
		if list, err := p.files.ReadDir(dir); err == nil {
			hint = nearest(name, list, func(near string) string {
				return slashed(path.Join(append([]string{dir, near}, parts[i+1:]...)...))
			})
		}
		return fmt.Errorf("%s:%s: %s has no %q%s", p.what, printable(slashed(file)), printable(slashed(dir)), name, hint)
	}
	return fmt.Errorf("%s:%s: is not there", p.what, printable(slashed(file)))
}

// nearest is a hint at the entry whose name differs least.
func nearest(name string, list []fs.DirEntry, whole func(string) string) string {
	names := make([]string, 0, len(list))
	for _, e := range list[:min(len(list), 10_000)] {
		names = append(names, e.Name())
	}
	best := near.Match(name, names)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", whole(best))
}
