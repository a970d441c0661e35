package repo

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/engine/internal/flock"
	"github.com/zeebo/blake3"
)

// journal is what a push has begun to send: one pack a line. Its process holds
// a lock on it, so that another knows whether the push still runs.
type journal struct {
	f    *os.File // nil: nothing is kept
	path string
}

// sentPack is one line of a journal.
type sentPack struct {
	ID                  fileID
	Data, Index, Blocks int64
	Epoch               int // collections known when it was sent
}

func (p sentPack) ref() packRef {
	return packRef{id: p.ID, data: p.Data, index: p.Index, blocks: int(p.Blocks)}
}

// othersMost is how many packs a push considers that pushes of something else
// have noted.
const othersMost = 64

// beginPush starts a journal for a push of what of names, and takes over those
// of pushes of the same that died. What pushes of something else have sent may
// be of use, too, but stays noted for them.
func (s state) beginPush(of string) (j *journal, taken, others []sentPack) {
	if s.dir == "" {
		return &journal{}, nil, nil
	}
	s.trimPushes()
	dir := filepath.Join(s.dir, "pushes")
	prefix := journalPrefix(of)
	var dead []*os.File
	for _, path := range s.journals() {
		if !strings.HasPrefix(filepath.Base(path), prefix) {
			if len(others) < othersMost {
				others = append(others, readJournal(path)...)
			}
		} else if f := lockDead(path); f != nil {
			taken = append(taken, readJournal(path)...)
			dead = append(dead, f)
		}
	}
	j = newJournal(dir, prefix)
	for _, p := range taken {
		j.add(p)
	}
	for _, f := range dead {
		if j.f != nil {
			os.Remove(f.Name())
		}
		f.Close()
	}
	return j, taken, others[:min(len(others), othersMost)]
}

// journalPrefix begins the names of the journals of pushes of the same.
func journalPrefix(of string) string {
	sum := blake3.Sum256([]byte(of))
	return fmt.Sprintf("push-%x-", sum[:8])
}

// journalsMost is how many journals are kept of pushes that died. No clock
// decides how long one may be of use.
const journalsMost = 32

// journals returns the paths of all journals, the last written to first.
func (s state) journals() []string {
	paths := namesIn(filepath.Join(s.dir, "pushes"), "push-")
	age := map[string]int64{}
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil {
			age[path] = -info.ModTime().UnixNano()
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return cmp.Compare(age[a], age[b]) })
	return paths
}

// trimPushes removes the journals of pushes that died, but for the last ones.
func (s state) trimPushes() {
	paths := s.journals()
	for _, path := range paths[min(len(paths), journalsMost):] {
		if f := lockDead(path); f != nil {
			os.Remove(path)
			f.Close()
		}
	}
}

// newJournal makes a locked file that appears under its name only when it is.
func newJournal(dir, prefix string) *journal {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return &journal{}
	}
	path := filepath.Join(dir, prefix+strings.TrimPrefix(filepath.Base(f.Name()), ".new-"))
	if ok, _ := flock.Try(f, flock.Exclusive); !ok || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
		f.Close()
		return &journal{}
	}
	return &journal{f, path}
}

// lockDead opens the journal of a push that runs no more; nil if it does.
func lockDead(path string) *os.File {
	f, err := flock.TryOpen(path, os.O_RDWR, flock.Exclusive)
	if err != nil {
		return nil
	}
	return f
}

func readJournal(path string) (packs []sentPack) {
	b, _ := os.ReadFile(path)
	for text := range strings.Lines(string(b)) {
		var p sentPack
		if json.Unmarshal([]byte(text), &p) == nil {
			packs = append(packs, p)
		}
	}
	return packs
}

// add notes a pack that is going to be in the repository.
func (j *journal) add(p sentPack) {
	if j.f == nil {
		return
	}
	if b, err := json.Marshal(p); err == nil {
		j.f.Write(append(b, '\n'))
	}
}

// end closes the journal, and removes it when its packs are published.
func (j *journal) end(published bool) {
	if j.f == nil {
		return
	}
	if published {
		os.Remove(j.path)
	}
	j.f.Close()
}
