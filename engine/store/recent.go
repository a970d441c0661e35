package store

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"slices"
)

// Recent lists the file objects that occupy at least so many bytes on the
// disk, with what was used last first. It does not count as using them.
func (s *Store) Recent(ctx context.Context, least int64) ([]Object, error) {
	type aged struct {
		o    Object
		used int64 // Unix time, nanoseconds
	}
	var found []aged
	err := s.eachStored(objectsDir, func(_ string, d Digest, info fs.FileInfo) error {
		if info.Mode().IsRegular() && allocated(info) >= least {
			found = append(found, aged{Object{File, d, info.Size()}, info.ModTime().UnixNano()})
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list objects in %s: %w", s.dir, err)
	}
	slices.SortFunc(found, func(a, b aged) int {
		return cmp.Or(cmp.Compare(b.used, a.used), slices.Compare(a.o.Digest[:], b.o.Digest[:]))
	})
	objects := make([]Object, len(found))
	for i, f := range found {
		objects[i] = f.o
	}
	return objects, nil
}
