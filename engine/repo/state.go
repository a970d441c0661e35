package repo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/zeebo/blake3"
)

// state is what this machine remembers of a repository. Everything in it can
// be had again, so that no error of it is an error of a push or a pull: what
// can't be read is not there. A state with an empty dir remembers nothing.
type state struct {
	dir string // of this repository
}

// openState returns the state for the repository with the id.
func openState(dir, id string) state {
	if dir == "" || id == "" || strings.ContainsAny(id, "/.") {
		return state{}
	}
	s := state{dir: filepath.Join(dir, id)}
	for _, sub := range []string{"files", "pushes", "pulled"} {
		if os.MkdirAll(filepath.Join(s.dir, sub), 0o755) != nil {
			return state{}
		}
	}
	return s
}

// get returns a kept index or manifest.
func (s state) get(id fileID) ([]byte, bool) {
	if s.dir == "" {
		return nil, false
	}
	path := s.file(id)
	b, err := os.ReadFile(path)
	if err != nil || !id.matches(b) {
		return nil, false
	}
	if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
		now := time.Now()
		os.Chtimes(path, now, now)
	}
	return b, true
}

// keepUnused is how long an index or manifest stays that nobody asks for.
const keepUnused = 30 * 24 * time.Hour

// trim removes what was not used for long, and leftovers of dead processes.
func (s state) trim() {
	trimDir(filepath.Join(s.dir, "files"), "")
	trimDir(filepath.Join(s.dir, "pulled"), "")
	trimDir(filepath.Join(s.dir, "pushes"), ".new-")
}

// trimDir removes what was not used for long from a directory, of the files
// whose names begin so.
func trimDir(dir, prefix string) {
	for _, path := range namesIn(dir, prefix) {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > keepUnused {
			os.Remove(path)
		}
	}
}

// namesIn returns the paths of the files in a directory whose names begin so;
// none of one that can't be read.
func namesIn(dir, prefix string) (paths []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	return paths
}

// put keeps an index or a manifest.
func (s state) put(id fileID, b []byte) {
	if s.dir != "" {
		replaceFile(s.file(id), b)
	}
}

func (s state) file(id fileID) string { return filepath.Join(s.dir, "files", id.String()) }

// replaceFile writes a file in whole; it is not flushed.
func replaceFile(path string, b []byte) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	_, err = f.Write(b)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
	}
}

// signature tells without reading whether a file is still the one it was.
type signature struct {
	Dev, Ino     uint64
	Size         int64
	Mtime, Ctime int64 // nanoseconds
}

func signatureOf(info fs.FileInfo) signature {
	st := info.Sys().(*syscall.Stat_t)
	return signature{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}

// pulled is what is remembered of the file at a path.
type pulled struct {
	Digest Digest
	File   signature
}

func (s state) pulledFile(dst string) string {
	sum := blake3.Sum256([]byte(dst))
	return filepath.Join(s.dir, "pulled", fmt.Sprintf("%x", sum[:16]))
}

// pulledTo returns the content of the file at dst, if it is known and the
// file did not change since.
func (s state) pulledTo(dst string) (Digest, bool) {
	if s.dir == "" {
		return Digest{}, false
	}
	var p pulled
	b, err := os.ReadFile(s.pulledFile(dst))
	if err != nil || json.Unmarshal(b, &p) != nil {
		return Digest{}, false
	}
	info, err := os.Lstat(dst)
	return p.Digest, err == nil && info.Mode().IsRegular() && signatureOf(info) == p.File
}

// setPulled remembers that the file that info is of, at dst, has the content d.
func (s state) setPulled(dst string, info fs.FileInfo, d Digest) {
	if s.dir == "" {
		return
	}
	if b, err := json.Marshal(pulled{d, signatureOf(info)}); err == nil {
		replaceFile(s.pulledFile(dst), b)
	}
}
