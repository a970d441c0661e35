package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/newfile"
)

// logCopy is this machine's copy of the beginning of a repository's log, kept
// under a hash of the location. The log is only ever appended to, so with a copy
// only the rest has to be read. Whether the log is still the one that was copied
// shows in the end of the copy, which is read again and compared: every line has
// a random part. The copy is not flushed, so its BLAKE3 hash follows it, and a
// torn copy is noticed.
type logCopy struct {
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
	keptSum  = 32 // bytes of the hash
)

// openLogCopy reads the copy of the log of loc, and returns what it says.
func openLogCopy(dir string, loc Location) (*logCopy, *view) {
	v := newView()
	if dir == "" || !loc.Remote() {
		return &logCopy{}, v
	}
	sum := blake3.Sum256([]byte(loc.String()))
	k := &logCopy{path: filepath.Join(dir, "logs", fmt.Sprintf("%x", sum[:16]))}
	info, err := os.Stat(k.path)
	if err != nil || info.Size() > maxLog+keptSum {
		return k, v
	}
	b, err := os.ReadFile(k.path)
	b, whole := unsealed(b)
	if err != nil || !whole || v.feed(b) != nil || v.id == "" {
		return k, newView()
	}
	k.length = v.offset
	k.tail = bytes.Clone(b[max(0, v.offset-keptTail):v.offset])
	return k, v
}

// unsealed cuts the hash off the end, and reports whether it is right.
func unsealed(b []byte) ([]byte, bool) {
	n := len(b) - keptSum
	if n < 0 {
		return nil, false
	}
	sum := blake3.Sum256(b[:n])
	return b[:n], bytes.Equal(sum[:], b[n:])
}

// keep makes a new copy, up to length, if the log has grown by keptStep.
func (k *logCopy) keep(length int64) {
	fresh := k.fresh
	k.fresh, k.tail = nil, nil
	if k.path == "" || length-k.length < keptStep {
		return
	}
	dir := filepath.Dir(k.path)
	if newfile.MkdirAll(dir, 0o755) != nil {
		return
	}
	trimDir(dir, "")
	writeFile(k.path, func(f *os.File) error { return k.write(f, fresh, length) })
}

// write writes the copy there is and what follows it, up to length, and the hash.
func (k *logCopy) write(f *os.File, fresh [][]byte, length int64) error {
	h := blake3.New()
	out := io.MultiWriter(f, h)
	if k.length > 0 {
		old, err := os.Open(k.path)
		if err != nil {
			return err
		}
		defer old.Close()
		if _, err := io.CopyN(out, old, k.length); err != nil {
			return err
		}
	}
	left := length - k.length
	for _, b := range fresh {
		n, err := out.Write(b[:min(int64(len(b)), left)])
		if left -= int64(n); err != nil {
			return err
		}
	}
	_, err := f.Write(h.Sum(nil))
	return err
}
