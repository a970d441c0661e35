package sparse

import (
	"cmp"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Same is a run of a file whose bytes are those of another file: what lies in [From, To)
// lies in the other one Shift bytes before. All are bytes.
type Same struct{ From, To, Shift int64 }

// Clones returns runs of a of which it is known, without a look at them, that they hold
// what b holds: blocks that the two share, at whatever distance, and holes of both in one
// place. The runs of one distance are in order and don't touch; runs of several may
// overlap. Neither file may be written to meanwhile.
//
// Only xfs and btrfs are asked: there an offset on the disk, in an extent that several
// files share, names one place. (A file system of several devices may give the same
// offset twice.) Elsewhere, and where nothing is shared, there are none, at next to no cost.
func Clones(a, b descriptor) ([]Same, error) {
	if same, err := oneDevice(a, b); err != nil || !same {
		return nil, err
	}
	var space unix.Statfs_t
	if err := unix.Fstatfs(int(a.Fd()), &space); err != nil {
		return nil, err
	}
	if int64(space.Type) != unix.XFS_SUPER_MAGIC && int64(space.Type) != unix.BTRFS_SUPER_MAGIC {
		return nil, nil
	}
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(int(a.Fd()), &x), unix.Fstat(int(b.Fd()), &y)); err != nil {
		return nil, err
	}
	first, err := mapped(a, 0) // without a flush, which most files would get for nothing
	if err != nil || !first.shares() {
		return nil, err
	}
	if first, err = mapped(a, fiemapSync); err != nil {
		return nil, err
	}
	second, err := mapped(b, fiemapSync)
	if err != nil || !second.shares() {
		return nil, err
	}
	return clones(first, second, x.Size, y.Size), nil
}

// clones are the runs of a file of sizeA bytes in which it is the other, of sizeB bytes.
func clones(a, b mapping, sizeA, sizeB int64) []Same {
	byPlace := placesOf(b)
	var runs []Same
	for _, e := range a {
		if !e.cloned() {
			continue
		}
		i, _ := slices.BinarySearchFunc(byPlace, e.physical, func(p placed, at int64) int { return cmp.Compare(p.physical+p.length, at+1) })
		for ; i < len(byPlace) && byPlace[i].physical < e.physical+e.length; i++ {
			p := byPlace[i]
			from, to := max(e.physical, p.physical), min(e.physical+e.length, p.physical+p.length)
			runs = append(runs, Same{e.logical + from - e.physical, e.logical + to - e.physical, e.logical - e.physical - (p.logical - p.physical)})
		}
	}
	for _, r := range common(a, b) {
		runs = append(runs, Same{r[0], r[1], 0})
	}
	for _, r := range overlap(a.holes(sizeA), b.holes(sizeB)) {
		runs = append(runs, Same{r[0], r[1], 0})
	}
	return joined(runs, sizeA, sizeB)
}

// cloned reports whether the extent is one that several files have, whose bytes are those
// of its block.
func (e placed) cloned() bool { return e.flags&extentShared != 0 && e.flags&extentOdd == 0 }

// placesOf lists the shared extents by their place on the disk, each place once.
func placesOf(m mapping) []placed {
	list := slices.DeleteFunc(slices.Clone(m), func(e placed) bool { return !e.cloned() })
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.physical, b.physical) })
	kept, end := list[:0], int64(0)
	for _, e := range list {
		if cut := end - e.physical; len(kept) > 0 && cut > 0 {
			e.physical, e.logical, e.length = e.physical+cut, e.logical+cut, e.length-cut
		}
		if e.length > 0 {
			kept, end = append(kept, e), e.physical+e.length
		}
	}
	return kept
}

// holes are the runs of a file of size bytes that are on no disk: they read as zeros.
func (m mapping) holes(size int64) (runs [][2]int64) {
	at := int64(0)
	for _, e := range m {
		if e.logical > at {
			runs = append(runs, [2]int64{at, e.logical})
		}
		at = max(at, e.logical+e.length)
	}
	if at < size {
		runs = append(runs, [2]int64{at, size})
	}
	return runs
}

// overlap is what two lists of runs, each in order, have in common.
func overlap(a, b [][2]int64) (runs [][2]int64) {
	for i, j := 0, 0; i < len(a) && j < len(b); {
		if from, to := max(a[i][0], b[j][0]), min(a[i][1], b[j][1]); from < to {
			runs = append(runs, [2]int64{from, to})
		}
		if a[i][1] < b[j][1] {
			i++
		} else {
			j++
		}
	}
	return runs
}

// joined cuts the runs to what lies in both files, and joins those of one distance that
// touch or overlap.
func joined(runs []Same, sizeA, sizeB int64) []Same {
	slices.SortFunc(runs, func(x, y Same) int { return cmp.Or(cmp.Compare(x.Shift, y.Shift), cmp.Compare(x.From, y.From)) })
	kept := runs[:0]
	for _, r := range runs {
		r.From, r.To = max(r.From, r.Shift), min(r.To, sizeA, sizeB+r.Shift)
		if r.From >= r.To {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].Shift == r.Shift && kept[n-1].To >= r.From {
			kept[n-1].To = max(kept[n-1].To, r.To)
			continue
		}
		kept = append(kept, r)
	}
	return kept
}
