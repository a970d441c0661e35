package mapped

import (
	"fmt"
	"slices"
)

// Tree finds units through two levels: a directory names tables, of which each
// entry says where a unit is. The directory is in memory, tables are cached.
type Tree struct {
	Name   string // of a table, for errors
	Cache  *Cache
	Tables int64 // in the directory
	Per    int64 // entries a table
	Unit   int64 // bytes a unit

	// Table returns the offset of table i in the file; 0: there is none.
	Table func(i int64) (int64, error)
	// Entry decodes entry j of a table to the spot of a whole unit.
	Entry func(table []byte, j int64) (Spot, error)
	// Within, unless nil, is asked instead of Entry, where a unit has several
	// spots: for the one of the byte that is in bytes behind the unit's start.
	Within func(table []byte, j, in int64) (Spot, error)
}

// Locate joins neighbouring units as long as their table is the same, and the
// holes of neighbouring tables that there are not.
func (t *Tree) Locate(off int64) (Spot, error) {
	i, j, in := off/t.Unit/t.Per, off/t.Unit%t.Per, off%t.Unit
	span := t.Per * t.Unit
	at, err := t.Table(i)
	if err != nil {
		return Spot{}, err
	}
	if at == 0 {
		return Spot{Kind: Hole, Length: t.missing(i)*span - off%span}, nil
	}
	table, err := t.Cache.At(at)
	switch {
	case err != nil:
		return Spot{}, fmt.Errorf("%s: %w", t.Name, err)
	case t.Cache.Blank(table) && t.zerosAreHoles(table):
		return Spot{Kind: Hole, Length: span - off%span}, nil
	case t.Within != nil:
		return t.Within(table, j, in)
	}
	return run(j, t.Per, in, func(j int64) (Spot, error) { return t.Entry(table, j) })
}

// zerosAreHoles reports whether the entries of a table of zeros are holes.
func (t *Tree) zerosAreHoles(table []byte) bool {
	s, err := t.Entry(table, 0)
	return err == nil && s.Kind == Hole
}

// missing counts the tables from i on that there are not. There is none at i.
func (t *Tree) missing(i int64) int64 {
	n := int64(1)
	for i+n < t.Tables {
		if at, err := t.Table(i + n); err != nil || at != 0 {
			break
		}
		n++
	}
	return n
}

// Repeated reports whether a number other than 0 occurs twice among the entries
// of a directory, of which the bits in mask count. So few tables that claim to
// describe a vast disk are found before anyone goes through them.
func Repeated[T uint32 | uint64](entries []T, mask T) (T, bool) {
	used := make([]T, 0, len(entries))
	for _, e := range entries {
		if e &= mask; e != 0 {
			used = append(used, e)
		}
	}
	slices.Sort(used)
	for i := 1; i < len(used); i++ {
		if used[i] == used[i-1] {
			return used[i], true
		}
	}
	return 0, false
}
