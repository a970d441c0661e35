package repo

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
)

// A push notes in a journal each pack that it begins to send, one JSON object a
// line, and holds a lock on the file. If the push dies, the kernel drops the
// lock, and the next push of the same image reads the journal: packs of it that
// have arrived in whole are not sent again. A push that is published removes its
// journal. A journal is not flushed: after a loss of power a torn line is passed
// over, and its pack is sent once more.

// journal is the journal of a push that runs.
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

// sound reports whether a push could have written it.
func (p sentPack) sound() bool {
	return p.Data >= 0 && p.Index >= 0 && p.Blocks >= 0 && p.Blocks <= packBlocks && p.Epoch >= 0
}

// othersMost bounds the packs that a push asks for of those that pushes of other
// images have noted.
const othersMost = 64

// beginPush starts a journal for a push of the image or step that of names. taken
// are the packs in the journals of pushes of the same that died; they move to the
// new journal. others are packs of pushes of something else, which stay in their
// journals.
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
		} else if f, err := flock.TryOpen(path, os.O_RDWR, flock.Exclusive); err == nil {
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

// journalPrefix is what the names of the journals of pushes of the same begin with.
func journalPrefix(of string) string {
	sum := blake3.Sum256([]byte(of))
	return fmt.Sprintf("push-%x-", sum[:8])
}

// journalsMost is how many journals stay of pushes that died. Their age does not
// count.
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

// trimPushes removes the oldest journals of pushes that died. Nobody has a lock on
// these.
func (s state) trimPushes() {
	paths := s.journals()
	for _, path := range paths[min(len(paths), journalsMost):] {
		if f, err := flock.TryOpen(path, os.O_RDWR, flock.Exclusive); err == nil {
			os.Remove(path)
			f.Close()
		}
	}
}

// newJournal makes a journal. The file gets its name when it is locked, so that no
// other push takes it for that of one that died.
func newJournal(dir, prefix string) *journal {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return &journal{}
	}
	_ = newfile.Inherit(f) // else only its maker goes on with it
	path := filepath.Join(dir, prefix+strings.TrimPrefix(filepath.Base(f.Name()), ".new-"))
	if ok, _ := flock.Try(f, flock.Exclusive); !ok || os.Rename(f.Name(), path) != nil {
		os.Remove(f.Name())
		f.Close()
		return &journal{}
	}
	return &journal{f, path}
}

// readJournal reads the packs in a journal; none if it can't be read. It passes
// over lines that are torn or that no push writes.
func readJournal(path string) (packs []sentPack) {
	b, _ := os.ReadFile(path)
	return parseJournal(b)
}

func parseJournal(b []byte) (packs []sentPack) {
	for text := range bytes.Lines(b) {
		var p sentPack
		if json.Unmarshal(text, &p) == nil && p.sound() {
			packs = append(packs, p)
		}
	}
	return packs
}

// add notes a pack that is about to be sent, for the next push if this one dies.
// Several goroutines may call it: a line is one write.
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
