package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"
)

// keptLog is this machine's copy of the beginning of a repository's log, by
// where the repository is. The log is only ever appended to, so that what
// follows is all there is to read. That it still is the same log is seen by
// the end of the copy, which is read along: every line has a random part.
type keptLog struct {
	path string // "" keeps nothing

	tail   []byte   // the end of the copy; nil: there is none
	length int64    // of the copy
	fresh  [][]byte // what was read after it
}

// errOtherLog: what was kept is not the beginning of the log that is there.
var errOtherLog = errors.New("another log")

const (
	// keptTail is how much of the copy is compared.
	keptTail = 4 << 10
	// keptStep is how much the log must have grown for a new copy.
	keptStep = 8 << 10
)

// recall reads the copy of the log of loc, and returns what it says.
func recall(dir string, loc Location) (*keptLog, *view) {
	v := newView()
	if dir == "" || !loc.Remote() {
		return &keptLog{}, v
	}
	sum := blake3.Sum256([]byte(loc.String()))
	k := &keptLog{path: filepath.Join(dir, "logs", fmt.Sprintf("%x", sum[:16]))}
	info, err := os.Stat(k.path)
	if err != nil || info.Size() > maxLog {
		return k, v
	}
	b, err := os.ReadFile(k.path)
	if err != nil || v.feed(b) != nil || v.id == "" {
		return k, newView()
	}
	k.length = v.offset
	k.tail = bytes.Clone(b[max(0, v.offset-keptTail):v.offset])
	return k, v
}

// compare takes off what begins as the copy ends.
func (k *keptLog) compare(b []byte) ([]byte, error) {
	rest, same := bytes.CutPrefix(b, k.tail)
	if !same {
		return nil, errOtherLog
	}
	return rest, nil
}

// keep makes a new copy, up to length, if there is much that is new.
func (k *keptLog) keep(length int64) {
	fresh := k.fresh
	k.fresh, k.tail = nil, nil
	if k.path == "" || length-k.length < keptStep {
		return
	}
	dir := filepath.Dir(k.path)
	if os.MkdirAll(dir, 0o755) != nil {
		return
	}
	trimDir(dir, "")
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return
	}
	err = k.write(f, fresh, length)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), k.path) != nil {
		os.Remove(f.Name())
	}
}

// write puts together the copy there is and what follows.
func (k *keptLog) write(f *os.File, fresh [][]byte, length int64) error {
	if k.length > 0 {
		old, err := os.Open(k.path)
		if err != nil {
			return err
		}
		defer old.Close()
		if _, err := io.CopyN(f, old, k.length); err != nil {
			return err
		}
	}
	for _, b := range fresh {
		if _, err := f.Write(b); err != nil {
			return err
		}
	}
	return f.Truncate(length)
}
