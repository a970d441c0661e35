package iso9660

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf16"
)

// Lengths of identifiers: bytes of name and extension in the primary tree
// (ECMA-119, 10.2), UTF-16 characters in Joliet's.
const (
	maxStem   = 30
	maxDirID  = 31
	jolietMax = 64
)

// names makes the identifiers of one directory, all different.
type names struct {
	joliet bool
	taken  map[string]bool
	next   map[string]int // the next number to try for a name
}

func (n *names) add(name string, dir bool) ([]byte, error) {
	stem, ext := n.fold(name, dir)
	for i := n.next[stem+"."+ext]; i < 1_000_000; i++ {
		id := n.join(stem, ext, dir, i)
		if !n.taken[string(id)] {
			n.taken[string(id)] = true
			n.next[stem+"."+ext] = i + 1
			return id, nil
		}
	}
	return nil, errors.New("too many names that look alike")
}

// fold replaces what an identifier cannot hold and splits off the extension.
func (n *names) fold(name string, dir bool) (stem, ext string) {
	if n.joliet {
		return strings.Map(func(c rune) rune {
			if c < 0x20 || strings.ContainsRune(`*/:;?\`, c) {
				return '_'
			}
			return c
		}, name), ""
	}
	stem = name
	if i := strings.LastIndexByte(name, '.'); i > 0 && !dir && len(name)-i-1 <= 8 {
		stem, ext = name[:i], name[i+1:]
	}
	return dCharacters(stem), dCharacters(ext)
}

// dCharacters folds to A-Z, 0-9 and _ (ECMA-119, 7.4.1).
func dCharacters(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		}
		return '_'
	}, s)
}

// join cuts to length and works the number in; 0 is none. Joliet names go
// without a version number, as everybody writes them.
func (n *names) join(stem, ext string, dir bool, number int) []byte {
	tail := ""
	if number > 0 {
		tail = fmt.Sprintf("%03d", number)
	}
	switch {
	case n.joliet:
		u := utf16.Encode([]rune(stem))
		u = append(u[:min(len(u), jolietMax-len(tail))], utf16.Encode([]rune(tail))...)
		var out []byte
		for _, c := range u {
			out = binary.BigEndian.AppendUint16(out, c)
		}
		return out
	case dir:
		return []byte(stem[:min(len(stem), maxDirID-len(tail))] + tail)
	}
	stem = stem[:min(len(stem), maxStem-len(ext)-len(tail))] + tail
	return []byte(stem + "." + ext + ";1")
}

// sortNames orders entries as ECMA-119, 9.3 wants: by name and extension, each
// padded with spaces; Joliet's by their UTF-16 characters.
func sortNames(entries []entry, primary bool) {
	key := func(id []byte) []byte {
		if !primary {
			return id
		}
		stem, ext, _ := bytes.Cut(bytes.TrimSuffix(id, []byte(";1")), []byte("."))
		return []byte(fmt.Sprintf("%-31s%-31s", stem, ext))
	}
	keys := make(map[string][]byte, len(entries))
	for _, e := range entries {
		keys[string(e.id)] = key(e.id)
	}
	sort.Slice(entries, func(i, j int) bool {
		return bytes.Compare(keys[string(entries[i].id)], keys[string(entries[j].id)]) < 0
	})
}
