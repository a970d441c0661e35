package store

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"
)

// Shelves are the states of the directories in which file objects lie, at one moment: by the
// first byte of their digests, and 0 where nothing is known. A directory in the same state has
// the same objects in it; whether somebody wrote to one of them it does not tell.
type Shelves [256]uint64

// Shelves looks at the directories of file objects. To stand for what is then found in them
// it must come before that.
func (s *Store) Shelves() Shelves {
	var all Shelves
	now := time.Now().UnixNano()
	for i := range all {
		all[i] = s.shelf(byte(i), now)
	}
	return all
}

// shelf is the state of the directories for one byte. One that changed within the grain of the
// clock may change again without a trace: nothing is known of it.
func (s *Store) shelf(first byte, now int64) uint64 {
	var text []byte
	for _, kind := range []string{objectsDir, differencesDir} {
		var st unix.Stat_t
		err := s.lstatShelf(kind, first, &st)
		switch {
		case errors.Is(err, unix.ENOENT):
			text = append(text, 0)
			continue
		case err != nil || now-st.Ctim.Nano() < int64(s.opts.Grain):
			return 0
		}
		text = append(text, 1)
		for _, n := range []uint64{st.Ino, uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())} {
			text = binary.LittleEndian.AppendUint64(text, n)
		}
	}
	sum := blake3.Sum256(text)
	return max(1, binary.LittleEndian.Uint64(sum[:]))
}

func (s *Store) lstatShelf(kind string, first byte, st *unix.Stat_t) error {
	const digits = "0123456789abcdef"
	name := kind + "/" + string([]byte{digits[first>>4], digits[first&15]})
	return ignoringEINTR(func() error { return unix.Fstatat(int(s.root.Fd()), name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

// Holds reports whether file objects with the digest's first byte are there which were there
// at the moment of then, if the two are of the same store.
func (now *Shelves) Holds(then *Shelves, d Digest) bool {
	return now[d[0]] != 0 && now[d[0]] == then[d[0]]
}

// News counts what is known now and was not, or is otherwise.
func (now *Shelves) News(then *Shelves) int {
	n := 0
	for i := range now {
		if now[i] != 0 && now[i] != then[i] {
			n++
		}
	}
	return n
}
