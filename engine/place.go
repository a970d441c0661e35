package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/store"
)

// Placer puts results where the user finds them, beneath one directory. It
// remembers what it placed, so that a result that is still there unchanged
// costs one lstat. Close writes the memory down.
type Placer struct {
	dir     string
	mu      sync.Mutex
	known   map[string]Placed // by path relative to dir
	dirty   bool
	staging *staging // nil until something is placed
	count   int      // of what was staged
}

// Placed is a result where the user has it, as it was when it was placed. Of
// what earlier builds placed a placer knows the Path, Mode, Sign and the digest.
type Placed struct {
	Label, Output string // what it is the result of, set by the caller of Place
	Path          string // absolute
	Mode          uint32 // the permission bits that were asked for, of a file
	Sign          string // changes when anyone changes the result, or anything in it
	Size          int64  // bytes
	Object        store.Object
	Stored        bool // the object is in the store; a located source is not
}

const placedFile = ".placed"

// claimed is the sign of a path that a placer was about to place.
const claimed = "-"

// NewPlacer returns a placer for dir, which is made when first needed.
func NewPlacer(dir string) *Placer {
	return &Placer{dir: dir, known: readPlaced(dir)}
}

// readPlaced reads what was placed in dir. What can't be read is not known,
// and is placed anew.
func readPlaced(dir string) map[string]Placed {
	known := map[string]Placed{}
	f, err := os.Open(filepath.Join(dir, placedFile))
	if err != nil {
		return known
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rel, r, ok := parsePlaced(dir, sc.Text()); ok {
			known[rel] = r
		}
	}
	return known
}

// line is what the file in the placer's directory says of a result at rel.
func (r Placed) line(rel string) string {
	return fmt.Sprintf("%s %o %s %s\n", r.Object.Digest, r.Mode, r.Sign, rel)
}

func parsePlaced(dir, line string) (rel string, r Placed, ok bool) {
	f := strings.SplitN(line, " ", 4)
	if len(f) != 4 {
		return "", r, false
	}
	digest, err := store.ParseDigest(f[0])
	mode, merr := strconv.ParseUint(f[1], 8, 32)
	r = Placed{Path: filepath.Join(dir, f[3]), Mode: uint32(mode), Sign: f[2], Object: store.Object{Digest: digest}}
	return f[3], r, err == nil && merr == nil
}

// Place puts the artifact at the path rel beneath the placer's directory. A
// file is cloned or copied without its holes under a temporary name and
// renamed; a tree replaces the one that was there. Nothing half-written is ever
// seen under the final name.
func (p *Placer) Place(ctx context.Context, a *Artifact, rel string, mode uint32) (Placed, error) {
	if !filepath.IsLocal(rel) {
		return Placed{}, fmt.Errorf("place %q: not a path beneath %s", rel, p.dir)
	}
	size, err := a.Size()
	if err != nil {
		return Placed{}, err
	}
	if mode == 0 {
		mode = 0o644
	}
	r := Placed{Path: filepath.Join(p.dir, rel), Mode: mode, Size: size, Object: a.Object(), Stored: a.Stored()}
	if r.Sign = p.unchanged(rel, r); r.Sign != "" {
		return r, nil
	}
	if err := p.put(ctx, a, rel, r); err != nil {
		return r, fmt.Errorf("place %s: %w", r.Path, err)
	}
	r.Sign = observe(r.Path)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known[rel], p.dirty = r, true
	return r, nil
}

func (p *Placer) put(ctx context.Context, a *Artifact, rel string, r Placed) error {
	if err := os.MkdirAll(filepath.Dir(r.Path), 0o755); err != nil {
		return err
	}
	staged, err := p.stage()
	if err == nil {
		err = p.claim(rel, r.Path)
	}
	if err == nil {
		err = a.copyTo(ctx, staged, r.Mode)
	}
	if err != nil {
		return err
	}
	return errors.Join(replace(staged, r.Path), os.RemoveAll(staged))
}

// claim notes durably that rel is b9's before anything is there, so that
// what a killed build placed is known as such. What is there already and is
// not b9's stays.
func (p *Placer) claim(rel, dst string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[rel]; ok {
		return nil
	}
	if _, err := os.Lstat(dst); err == nil {
		// Another b9 may have placed it since this one began.
		r, ok := readPlaced(p.dir)[rel]
		if !ok {
			return errors.New("it is there already, and b9 did not put it there: move it away, or choose another directory with --out")
		}
		p.known[rel] = r
		return nil
	}
	f, err := os.OpenFile(filepath.Join(p.dir, placedFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	r := Placed{Path: dst, Sign: claimed}
	p.known[rel] = r
	_, err = f.WriteString(r.line(rel))
	return errors.Join(err, f.Close())
}

// stage returns a new name in the staging directory.
func (p *Placer) stage() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staging == nil {
		var err error
		if p.staging, err = newStaging(p.dir); err != nil {
			return "", err
		}
	}
	p.count++
	return filepath.Join(p.staging.path, strconv.Itoa(p.count)), nil
}

func (a *Artifact) copyTo(ctx context.Context, dst string, mode uint32) error {
	if err := a.Fork(ctx, dst); err != nil || a.Kind() == store.Tree {
		return err
	}
	return os.Chmod(dst, fs.FileMode(mode))
}

// replace renames new to dst. Where a directory is in the way the two are
// exchanged in one step, and the old one goes with new's directory.
func replace(new, dst string) error {
	err := os.Rename(new, dst)
	if err == nil || !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EISDIR) && !errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	return unix.Renameat2(unix.AT_FDCWD, new, unix.AT_FDCWD, dst, unix.RENAME_EXCHANGE)
}

// unchanged returns the sign of the result at rel if that is as r wants it and
// as it was placed, else "".
func (p *Placer) unchanged(rel string, r Placed) string {
	p.mu.Lock()
	was, ok := p.known[rel]
	p.mu.Unlock()
	if !ok || was.Object.Digest != r.Object.Digest || was.Mode != r.Mode || was.Sign == "" || observe(r.Path) != was.Sign {
		return ""
	}
	return was.Sign
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

// Close writes down what was placed and removes the staging directory. It
// may be called when nothing was placed.
func (p *Placer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.staging == nil {
		return nil
	}
	var err error
	if p.dirty {
		err = p.save()
	}
	err = errors.Join(err, p.staging.close())
	p.staging = nil
	return err
}

// save writes what is known together with what other builds placed meanwhile.
func (p *Placer) save() error {
	guard, err := flock.Open(p.dir, os.O_RDONLY, flock.Exclusive)
	if err != nil {
		return err
	}
	defer guard.Close()
	all := readPlaced(p.dir)
	maps.Copy(all, p.known)
	var text strings.Builder
	for _, rel := range slices.Sorted(maps.Keys(all)) {
		text.WriteString(all[rel].line(rel))
	}
	tmp := filepath.Join(p.staging.path, placedFile)
	if err := os.WriteFile(tmp, []byte(text.String()), 0o644); err != nil {
		return err
	}
	p.dirty = false
	return os.Rename(tmp, filepath.Join(p.dir, placedFile))
}

// RemoveResults removes from dir what placers put there, the directories that
// are empty then, and dir itself if nothing else is in it. It returns how many
// results it removed.
func RemoveResults(dir string) (int, error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var errs []error
	known := readPlaced(dir)
	for rel := range known {
		if !filepath.IsLocal(rel) {
			continue
		}
		errs = append(errs, os.RemoveAll(filepath.Join(dir, rel)))
		for up := filepath.Dir(rel); up != "."; up = filepath.Dir(up) {
			if os.Remove(filepath.Join(dir, up)) != nil {
				break // not empty
			}
		}
	}
	errs = append(errs, reapStaging(dir))
	if err := os.Remove(filepath.Join(dir, placedFile)); !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	_ = os.Remove(dir) // stays when something else is in it
	return len(known), errors.Join(errs...)
}
