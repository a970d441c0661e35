package store

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A process that asks again for what others have found reads what is new of the file.
func TestOnlyNewStatesAreReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checks")
	write := func(flags int, entries []byte) {
		f := must[*os.File](t)(os.OpenFile(path, os.O_WRONLY|os.O_CREATE|flags, 0o600))
		_, err := f.Write(entries)
		check(t, err)
		check(t, f.Close())
	}
	entry := func(first byte) []byte { return appendCheck(nil, Digest{first, 8: first}, proof{ino: uint64(first)}) }
	var s checkShard
	known := func(first byte) bool {
		at, ok := s.last[inShard(Digest{first, 8: first})]
		if !ok {
			return false
		}
		_, e, ok := decodeCheck(s.data[at:])
		return ok && e.ino == uint64(first)
	}
	write(os.O_APPEND, bytes.Repeat(entry(1), 1000))
	s.read(path)
	write(os.O_APPEND, entry(2))
	before := readSoFar()
	s.read(path)
	if read := readSoFar() - before; read > 100*checkSize {
		t.Errorf("%d bytes are read for one entry of %d", read, checkSize)
	}
	if !known(1) || !known(2) {
		t.Error("an entry is not known")
	}
	write(os.O_TRUNC, entry(9))
	if s.read(path); !known(9) {
		t.Error("a file that was written anew is not read")
	}
	check(t, os.Remove(path))
	s.read(path)
	write(os.O_APPEND, append(append(append(entry(4), entry(5)...), entry(6)...), entry(7)...))
	if s.read(path); !known(4) || !known(7) {
		t.Error("a file that was removed and made again is not read")
	}
}
