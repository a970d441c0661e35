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

	"b9.build/b9/engine/internal/newfile"
)

// state is the directory with what this machine remembers of a repository. All of
// it can be read or made again, so its errors are not errors of a push or a pull:
// a file that can't be read counts as missing. With an empty dir nothing is
// remembered.
//
// files/ holds indexes and manifests by their IDs, which are hashes of them, so
// that a torn file is noticed. pushes/ holds a journal for each push that runs or
// died (journal.go). pulled/ holds, for each path that was pulled to, the digest
// and the signature of the file there.
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
		if newfile.MkdirAll(filepath.Join(s.dir, sub), 0o755) != nil {
			return state{}
		}
	}
	return s
}

// get returns an index or a manifest, if it is kept. It marks it as used, at most
// once a day.
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

// keepUnused is how long a file of the state stays that nobody reads.
const keepUnused = 30 * 24 * time.Hour

// trim removes the files that were not used for keepUnused, and what processes
// that died left half written.
func (s state) trim() {
	trimDir(filepath.Join(s.dir, "files"), "")
	trimDir(filepath.Join(s.dir, "pulled"), "")
	trimDir(filepath.Join(s.dir, "pushes"), ".new-")
}

// trimDir removes from a directory the files with a prefix that were not used for
// keepUnused.
func trimDir(dir, prefix string) {
	for _, path := range namesIn(dir, prefix) {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > keepUnused {
			os.Remove(path)
		}
	}
}

// namesIn returns the paths of the files in a directory whose names have a prefix;
// none if the directory can't be read.
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

// replaceFile gives a file the content b, or leaves it as it is.
func replaceFile(path string, b []byte) {
	writeFile(path, func(f *os.File) error {
		_, err := f.Write(b)
		return err
	})
}

// writeFile replaces a file by what write writes, or leaves it as it is. It does
// not flush it: after a loss of power the file may be short.
func writeFile(path string, write func(*os.File) error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return
	}
	if errors.Join(write(f), newfile.Inherit(f), f.Close()) != nil || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
	}
}

// signature tells without reading it whether a file was replaced or changed.
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

// setPulled remembers that the file at dst, as info describes it, has the
// content d.
func (s state) setPulled(dst string, info fs.FileInfo, d Digest) {
	if s.dir == "" {
		return
	}
	if b, err := json.Marshal(pulled{d, signatureOf(info)}); err == nil {
		replaceFile(s.pulledFile(dst), b)
	}
}
