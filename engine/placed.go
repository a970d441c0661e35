package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/store"
)

// placedFile is what b9 knows of the results in a directory: for each, by its path,
// the digest, the mode and the sign, and on a line of its own what it is the result of,
// which a b9 that knows no such lines passes over. Results that several builds place at once
// are all in it: whoever writes it reads it again, under a lock.
const placedFile = ".placed"

// claim is the sign of a path that is b9's although what is there is not
// known: a build was about to place a result.
const claim = "-"

// maxPlaced is the size, in bytes, from which on the file is not b9's.
const maxPlaced = 256 << 20

// readPlaced reads what was placed in dir at the paths for which wanted says so. A line that
// b9 did not write says nothing, nor does what is no file. A file that can't be read is an
// error: whoever went on without it would forget which results are b9's.
func readPlaced(dir string, wanted func(rel []byte) bool) (map[string]Placed, error) {
	known := map[string]Placed{}
	err := eachPlaced(dir, func(rel, line []byte) {
		if !wanted(rel) {
			return
		}
		if label, rel, ok := parsePlacedLabel(string(line)); ok {
			if r, ok := known[rel]; ok {
				r.Label = label
				known[rel] = r
			}
		} else if rel, r, ok := parsePlaced(dir, string(line)); ok {
			known[rel] = r
		}
	})
	return known, err
}

// among is whether a path is one of some.
func among(paths map[string]bool) func(rel []byte) bool {
	return func(rel []byte) bool { return paths[string(rel)] }
}

// eachPlaced calls fn, which keeps neither, for each line of the file and the path in it.
func eachPlaced(dir string, fn func(rel, line []byte)) error {
	// Whatever a checkout has put there: no link, and nothing to wait for.
	f, err := os.OpenFile(filepath.Join(dir, placedFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOTDIR) {
		return nil // no file: a link, a socket, or nothing at all
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return err
	}
	sc := bufio.NewScanner(io.LimitReader(f, maxPlaced))
	for sc.Scan() {
		if rel := placedPath(sc.Bytes()); len(rel) > 0 {
			fn(rel, sc.Bytes())
		}
	}
	if err := sc.Err(); err != nil && !errors.Is(err, bufio.ErrTooLong) {
		return err
	}
	return nil
}

// placedPath is the path in a line, of which it keeps nothing; nil for a line without one.
func placedPath(line []byte) []byte {
	if bytes.HasPrefix(line, []byte(placedLabel)) {
		_, rel, ok := parsePlacedLabel(string(line))
		if !ok {
			return nil
		}
		return line[len(line)-len(rel):]
	}
	for range 3 {
		_, line, _ = bytes.Cut(line, []byte(" "))
	}
	return line
}

// placedChange is what the file is to say of the path rel.
type placedChange struct {
	rel     string
	to      *Placed // nil for nothing any more
	claimed bool    // not what is there, but that it is b9's
}

// lines are those of the change.
func (c placedChange) lines() string {
	switch {
	case c.to == nil:
		return ""
	case c.claimed:
		return Placed{Label: c.to.Label, Sign: claim}.lines(c.rel)
	}
	return c.to.lines(c.rel)
}

// writeChanged writes what the file has to say after changes, which it sorts, of several
// paths. The rest of it is not looked at.
func writeChanged(to io.Writer, dir string, changes []placedChange) error {
	type placedLine struct{ rel, line string }
	var others []placedLine
	byPath := func(c placedChange, rel string) int { return strings.Compare(c.rel, rel) }
	slices.SortFunc(changes, func(a, b placedChange) int { return strings.Compare(a.rel, b.rel) })
	err := eachPlaced(dir, func(rel, line []byte) {
		if _, changed := slices.BinarySearchFunc(changes, string(rel), byPath); !changed {
			text := string(line) + "\n"
			others = append(others, placedLine{text[len(text)-1-len(rel) : len(text)-1], text})
		}
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(others, func(a, b placedLine) int { return strings.Compare(a.rel, b.rel) })
	w := bufio.NewWriter(to)
	for _, c := range changes {
		for len(others) > 0 && others[0].rel < c.rel {
			w.WriteString(others[0].line)
			others = others[1:]
		}
		w.WriteString(c.lines())
	}
	for _, o := range others {
		w.WriteString(o.line)
	}
	return w.Flush() // which has the error of every write
}

// PlacedIn lists what b9 knows of the results in a directory, by path below it.
func PlacedIn(dir string) (map[string]Placed, error) { return PlacedBeside(dir, nil) }

// PlacedBeside is [PlacedIn] without the results at some paths.
func PlacedBeside(dir string, known map[string]bool) (map[string]Placed, error) {
	return readPlaced(dir, func(rel []byte) bool { return !known[string(rel)] })
}

// placedLabel begins a line with the label of a result.
const placedLabel = "of "

// lines is what the file says of a result at rel.
func (r Placed) lines(rel string) string {
	line := fmt.Sprintf("%s %o %s %s\n", r.Object.Digest, r.Mode, r.Sign, rel)
	if r.Label == "" {
		return line
	}
	return line + placedLabel + strconv.Quote(r.Label) + " " + rel + "\n"
}

func parsePlacedLabel(line string) (label, rel string, ok bool) {
	rest, ok := strings.CutPrefix(line, placedLabel)
	if !ok {
		return "", "", false
	}
	quoted, err := strconv.QuotedPrefix(rest)
	if err != nil {
		return "", "", false
	}
	label, err = strconv.Unquote(quoted)
	rel, ok = strings.CutPrefix(rest[len(quoted):], " ")
	return label, rel, ok && err == nil
}

func parsePlaced(dir, line string) (rel string, r Placed, ok bool) {
	f := strings.SplitN(line, " ", 4)
	if len(f) != 4 || !isResult(f[3]) {
		return "", r, false
	}
	digest, err := store.ParseDigest(f[0])
	mode, merr := strconv.ParseUint(f[1], 8, 32)
	r = Placed{Path: filepath.Join(dir, f[3]), Mode: uint32(mode), Sign: f[2], Object: store.Object{Digest: digest}}
	return f[3], r, err == nil && merr == nil
}

// isResult reports whether b9 places results at that path. The file may have come with
// a checkout, and then it says anything.
func isResult(rel string) bool {
	top, _, _ := strings.Cut(rel, "/")
	return filepath.IsLocal(rel) && rel == filepath.Clean(rel) && top != "." && top != placedFile && !strings.HasPrefix(top, stagingPrefix)
}

// claim notes that the paths are b9's before anything is there, so that what
// a cut leaves there is known as such. What is there already and is not b9's stays.
func (p *placer) claim(ctx context.Context, todo []placing) error {
	guard, err := p.store.LockFile(ctx, p.dir, os.O_RDONLY) // others claim before or after
	if err != nil {
		return err
	}
	defer guard.Close()
	// Since this one began another b9 may have placed something, or removed it.
	others, err := readPlaced(p.dir, among(pathsOf(todo)))
	if err != nil {
		return err
	}
	var changes []placedChange
	for i := range todo {
		t := &todo[i]
		if err := throughNoLink(p.root, t.rel); err != nil {
			return fmt.Errorf("place %s: %w", t.result.Path, err)
		}
		if r, ok := others[t.rel]; ok {
			p.known[t.rel] = r
			continue
		}
		_, err := p.root.Lstat(t.rel)
		if err == nil {
			return fmt.Errorf("place %s: it is there already, and b9 did not put it there: move it away, or choose another directory with --out", t.result.Path)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return err
		}
		t.claimed = true
		changes = append(changes, placedChange{t.rel, t.result, true})
	}
	if len(changes) == 0 {
		return nil
	}
	return p.staging.replace(placedFile, func(w io.Writer) error { return writeChanged(w, p.dir, changes) })
}

// pathsOf are the paths of what is placed.
func pathsOf(todo []placing) map[string]bool {
	paths := make(map[string]bool, len(todo))
	for _, t := range todo {
		paths[t.rel] = true
	}
	return paths
}

// throughNoLink returns an error when a directory on the way to rel is a symbolic
// link: what is behind it is not b9's.
func throughNoLink(root *os.Root, rel string) error {
	for up := filepath.Dir(rel); up != "."; up = filepath.Dir(up) {
		if st, err := root.Lstat(up); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link, and b9 leaves alone what is behind it: remove the link", filepath.Join(root.Name(), up))
		}
	}
	return nil
}

// save writes what became of todo into what other builds have left of the file, whole or
// not at all. Of the paths that this one had claimed those are left out at which nothing came
// to be.
func (p *placer) save(ctx context.Context, todo []placing) error {
	guard, err := p.store.LockFile(ctx, p.dir, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer guard.Close()
	var changes []placedChange
	failed := map[string]bool{}
	for i := range todo {
		switch t := &todo[i]; {
		case t.placed:
			changes = append(changes, placedChange{rel: t.rel, to: t.result})
		case t.claimed:
			failed[t.rel] = true
		}
	}
	there, err := readPlaced(p.dir, among(failed))
	if err != nil {
		return err
	}
	for rel := range failed {
		if there[rel].Sign == claim {
			changes = append(changes, placedChange{rel: rel})
		}
	}
	return p.staging.replace(placedFile, func(w io.Writer) error { return writeChanged(w, p.dir, changes) })
}

// observe returns a text that changes when anyone changes the file, or
// anything in the directory, at path. It has no spaces. It is empty, and so
// equal to nothing that was placed, when path can't be read.
func observe(path string) string {
	sign, dir := lstatSign(path)
	if !dir {
		return sign
	}
	h := blake3.New()
	err := filepath.WalkDir(path, func(file string, _ fs.DirEntry, err error) error {
		sign, _ := lstatSign(file)
		fmt.Fprintf(h, "%q %s\n", file, sign)
		return err
	})
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// lstatSign is the inode, type, size and times of a file, or "", and whether
// it is a directory.
func lstatSign(path string) (sign string, dir bool) {
	var st unix.Stat_t
	if !statted(unix.Lstat, path, &st) {
		return "", false
	}
	return statSign(&st), st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// RemoveResults removes from dir what b9 placed there, the directories that
// are empty then, and dir itself if nothing else is in it. It returns how many
// results it removed. What lies behind a symbolic link is an error and stays. Another
// process that uses the directory is waited for, of which tell, if it is not nil, is told.
// The paths stay b9's while a build is about to place something there.
func RemoveResults(ctx context.Context, dir string, tell func(holder string)) (removed int, err error) {
	return removeResults(ctx, dir, nil, tell)
}

// RemoveSome is [RemoveResults] for those results for which which says so by their paths
// below dir.
func RemoveSome(ctx context.Context, dir string, which func(rel string) bool, tell func(holder string)) (removed int, err error) {
	return removeResults(ctx, dir, which, tell)
}

func removeResults(ctx context.Context, dir string, which func(rel string) bool, tell func(holder string)) (removed int, err error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err == nil && !info.IsDir(): // to open a pipe would wait for its other end
		return 0, fmt.Errorf("%s is not the directory of the results: move it away", dir)
	case err != nil:
		return 0, err
	}
	guard, err := store.LockFile(ctx, dir, os.O_RDONLY, tell)
	if err != nil {
		return 0, err
	}
	defer guard.Close()
	if !isThere(guard, dir) {
		return removeResults(ctx, dir, which, tell) // another one has just removed it
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	placed, err := PlacedIn(dir)
	if err != nil {
		return 0, err
	}
	if which != nil {
		return removeSome(root, placed, which)
	}
	removed, err = removeEach(root, placed, func(string) bool { return true })
	alive, rerr := reapStaging(dir)
	if err := errors.Join(err, rerr); err != nil {
		return removed, err // .placed stays: it tells of what is left
	}
	if alive && len(placed) > 0 {
		return removed, claimAll(dir, placed)
	}
	if err := forgetPlaced(root); err != nil {
		return removed, err
	}
	_ = os.Remove(dir) // stays when something else is in it
	return removed, nil
}

// removeEach removes those results for which which says so, and counts them.
func removeEach(root *os.Root, placed map[string]Placed, which func(rel string) bool) (removed int, err error) {
	var errs []error
	for rel := range placed {
		if !which(rel) {
			continue
		}
		if err := removeResult(root, rel); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// removeSome removes some of several results. They are forgotten after they are gone: a
// result that came back after a power loss is still b9's.
func removeSome(root *os.Root, placed map[string]Placed, which func(rel string) bool) (removed int, err error) {
	if removed, err = removeEach(root, placed, which); err != nil || removed == 0 {
		return removed, err
	}
	top, err := root.Open(".")
	if err != nil {
		return removed, err
	}
	defer top.Close()
	if err := unix.Syncfs(int(top.Fd())); err != nil {
		return removed, fmt.Errorf("flush the file system of %s: %w", root.Name(), err)
	}
	var gone []placedChange
	for rel := range placed {
		if which(rel) {
			gone = append(gone, placedChange{rel: rel})
		}
	}
	return removed, changePlaced(root.Name(), gone)
}

// removeResult removes what is at rel, and the directories that it leaves empty.
func removeResult(root *os.Root, rel string) error {
	if err := throughNoLink(root, rel); err != nil {
		return fmt.Errorf("remove %s: %w", filepath.Join(root.Name(), rel), err)
	}
	if err := root.RemoveAll(rel); err != nil {
		return err
	}
	for up := filepath.Dir(rel); up != "."; up = filepath.Dir(up) {
		if root.Remove(up) != nil {
			break // not empty
		}
	}
	return nil
}

// claimAll says of every path that it is b9's, whatever is there: a build has said so of
// some of them, and places results before it says so again.
func claimAll(dir string, placed map[string]Placed) error {
	all := make([]placedChange, 0, len(placed))
	for rel := range placed {
		all = append(all, placedChange{rel, &Placed{}, true})
	}
	return changePlaced(dir, all)
}

// changePlaced changes the file. The caller has the lock on dir.
func changePlaced(dir string, changes []placedChange) error {
	return newfile.Write(filepath.Join(dir, placedFile), 0o666, true, func(f *os.File) error {
		return errors.Join(writeChanged(f, dir, changes), newfile.Inherit(f))
	})
}

// isThere reports whether path still names what f is.
func isThere(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// forgetPlaced removes the file once the removal of the results is on the disk:
// a result that came back after a power loss would be nobody's without it.
func forgetPlaced(root *os.Root) error {
	top, err := root.Open(".")
	if err != nil {
		return err
	}
	defer top.Close()
	if err := unix.Syncfs(int(top.Fd())); err != nil {
		return fmt.Errorf("flush the file system of %s: %w", root.Name(), err)
	}
	if err := root.Remove(placedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
