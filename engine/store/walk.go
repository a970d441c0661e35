package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"b9.build/b9/engine/internal/digest"
)

// eachIn calls fn for everything in dir, in the order of names. What vanishes
// meanwhile is left out.
func eachIn(dir string, fn func(path string, info fs.FileInfo) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = fn(filepath.Join(dir, e.Name()), info)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// eachStored is eachIn for the files of a sharded directory that are named by a
// digest.
func (s *Store) eachStored(kind string, fn func(path string, d Digest, info fs.FileInfo) error) error {
	return eachIn(filepath.Join(s.dir, kind), func(shard string, _ fs.FileInfo) error {
		return eachIn(shard, func(path string, info fs.FileInfo) error {
			if d, err := digest.ParseHex(info.Name()); err == nil {
				return fn(path, d, info)
			}
			return nil
		})
	})
}

// eachRecord calls fn for every record, or with an error for what should be one
// and is not. The error wraps an *fs.PathError when it could not be read, and may
// yet be sound.
func (s *Store) eachRecord(fn func(path string, info fs.FileInfo, r *Record, err error) error) error {
	return s.eachStored(recordsDir, func(path string, key Digest, info fs.FileInfo) error {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		var r *Record
		if err == nil {
			r, err = DecodeRecord(key, data)
		}
		return fn(path, info, r, err)
	})
}
