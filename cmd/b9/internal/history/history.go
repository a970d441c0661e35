// Package history keeps the event logs of builds in the store, and reads them.
//
//	Dir      the directory of the logs
//	Log      that of a build which runs
//	Build    that of one which ran, read
//
// It hides the files, how many are kept, and how one knows that a build was killed. It
// prints nothing: docs/store.md describes the files, docs/output.md the events.
package history

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/cmd/b9/internal/output"
)

// Dir is the directory of event logs, which need not be there.
type Dir string

// In is the directory of a store.
func In(store string) Dir { return Dir(filepath.Join(store, "builds")) }

const (
	idForm        = "20060102-150405.000"
	extension     = ".jsonl"
	unchangedFile = "unchanged"
	older         = ".1"

	maxBuilds    = 200
	maxBytes     = 256 << 20 // of all logs
	maxUnchanged = 64 << 10  // bytes of the file for builds with nothing to do
)

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

// IsID reports whether a word is the ID of a build, or its beginning: the day, a dash, and
// what else of the time makes it the only one.
func IsID(word string) bool {
	if len(word) < len("20060102-") || len(word) > len(idForm) {
		return false
	}
	for i, c := range []byte(word) {
		if f := idForm[i]; f == '-' || f == '.' {
			if c != f {
				return false
			}
		} else if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// logs lists the names of the files of builds, oldest first.
func (d Dir) logs() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), extension); ok && IsID(id) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

// prune removes the oldest logs that are too many, or too large together. The newest stays.
func (d Dir) prune() error {
	names, err := d.logs()
	if err != nil {
		return err
	}
	slices.Reverse(names)
	var size int64
	for i, name := range names {
		st, err := os.Stat(d.path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another build removed it
		}
		if err != nil {
			return err
		}
		size += st.Size()
		if i == 0 || i < maxBuilds && size <= maxBytes {
			continue
		}
		if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// read returns the content of a file; where most is not 0 and it is longer than twice that,
// so many bytes of its beginning and of its end, else no tail.
func (d Dir) read(name string, most int64) (head, tail []byte, err error) {
	f, err := os.Open(d.path(name))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if most == 0 || st.Size() <= 2*most {
		head, err = io.ReadAll(f)
		return head, nil, err
	}
	head, tail = make([]byte, most), make([]byte, most)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, nil, err
	}
	_, err = f.ReadAt(tail, st.Size()-most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return head, tail, err
}

// ErrNone is the error for a build of which there is no log.
var ErrNone = errors.New("no event log of such a build is kept (`b9 builds` lists them)")

// Find reads the build of whose ID word is the beginning. One that had nothing to do has
// no log: what is known of it is how it ended.
func (d Dir) Find(word string) (*Build, error) {
	all, err := d.List("")
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(b output.BuildRun) bool { return !strings.HasPrefix(b.ID, word) })
	switch len(all) {
	case 0:
		return nil, fmt.Errorf("%s: %w", word, ErrNone)
	case 1:
		b, err := d.Read(all[0].ID)
		if errors.Is(err, fs.ErrNotExist) {
			return &Build{BuildRun: all[0]}, nil
		}
		return b, err
	}
	var ids []string
	for _, b := range all {
		ids = append(ids, b.ID)
	}
	return nil, fmt.Errorf("%s: several builds begin so: %s", word, strings.Join(ids, ", "))
}
