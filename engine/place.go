package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// Placing results
//
// Results go to one directory, where the user finds them. They get there in an
// order that leaves, wherever the power fails, either what was there or what was
// to come, and the next build knows which paths are b9's:
//
//  1. The file .placed claims the paths (placed.go).
//  2. Results are written below a staging directory.
//  3. Claims and contents are flushed to the disk.
//  4. Each result is renamed to its path.
//  5. .placed gets what stat says of them. That is trusted later, so it must not
//     be on the disk before the contents are.
//  6. The names are flushed, too.
//
// Of a few files each is flushed, and the directories that name them. Whatever is more,
// or a new directory of results, is flushed with its whole file system, which waits for
// what others wrote there, too.
//
// Everything happens below a handle of the directory, and through no symbolic
// link: the directory may have come with a checkout, links and .placed included.

// Wanted is a result and where the user wants it.
type Wanted struct {
	Artifact      *Artifact
	Label, Output string // what it is the result of, for the caller
	Path          string // below the directory
	Mode          uint32 // permission bits of a file, less the umask; 0 is 0644
}

// Placed is a result where the user has it, as it was when it was placed. Of
// what earlier builds placed only the Label, Path, Mode, Sign and the digest are known.
type Placed struct {
	Label, Output string // those of Wanted
	Path          string // absolute
	Mode          uint32 // the permission bits that were asked for, of a file
	Sign          string // changes when anyone changes the result, or anything in it
	Size          int64  // bytes
	Object        store.Object
	Stored        bool   // the object is in the store; a located source is not
	link          string // what a symbolic link in place of the content leads to; "" is the content
}

// batchBytes is how much is written before it replaces what was there: a limit
// of what results take beside those of the build before.
const batchBytes = 4 << 30

// Destination is where results go.
type Destination struct {
	Dir   string      // made when there are results
	Umask fs.FileMode // what files and directories get no permission for

	// Link has files of the store placed as symbolic links to them. Directories, programs,
	// what lies outside of the store, and everything of a store that can only be read are
	// copied in spite of it: what is no file there can't be linked to, or would not stay.
	Link bool
	// Placing, unless nil, is told how many bytes of data are placed, of how many. It may be
	// called from several goroutines, but never from two at once.
	Placing func(done, total int64)
}

// Place puts results beneath a directory, which is made when there are any. A result that
// is there unchanged costs one lstat. The others are cloned, or copied without
// their holes, under temporary names and renamed; a tree replaces the one
// that was there. What a link leads to is kept by the store while the link is there. Nothing half-written is ever seen under a final name, and when
// Place returns without an error all results survive a power loss. What is at a
// path already and was not placed by b9 is an error, and stays; then nothing is
// placed.
func Place(ctx context.Context, to Destination, wanted []Wanted) ([]Placed, error) {
	p, err := newPlacer(to, wanted)
	if err != nil {
		return nil, err
	}
	list := make([]Placed, len(wanted))
	var todo []placing
	for i, w := range wanted {
		r, err := p.resultOf(ctx, w)
		if err != nil {
			return nil, err
		}
		if list[i] = r; r.Sign == "" {
			todo = append(todo, placing{artifact: w.Artifact, rel: filepath.Clean(w.Path), result: &list[i]})
		}
	}
	if len(todo) == 0 {
		p.relabel(ctx, wanted, list)
		return list, nil
	}
	if err := p.placeAll(ctx, todo); err != nil {
		return nil, store.SpaceError(to.Dir, err)
	}
	return list, nil
}

// relabel notes what the results are results of that are there already. It is only of
// help to people, so what hinders it is no error.
func (p *placer) relabel(ctx context.Context, wanted []Wanted, list []Placed) {
	var others []placing
	for i := range list {
		rel := filepath.Clean(wanted[i].Path)
		if p.known[rel].Label != list[i].Label {
			others = append(others, placing{rel: rel, result: &list[i], placed: true})
		}
	}
	if len(others) == 0 {
		return
	}
	p.store = wanted[0].Artifact.store
	if err := p.open(ctx); err == nil {
		_ = errors.Join(p.save(ctx, others), p.close())
	}
}

// Unplaced describes results that are placed nowhere. Their paths are empty.
func Unplaced(wanted []Wanted) ([]Placed, error) {
	list := make([]Placed, len(wanted))
	for i, w := range wanted {
		size, err := w.Artifact.Size()
		if err != nil {
			return nil, err
		}
		list[i] = Placed{Label: w.Label, Output: w.Output, Mode: w.Mode, Size: size, Object: w.Artifact.Object(), Stored: w.Artifact.Stored()}
	}
	return list, nil
}

// resultOf describes what is wanted. It has a sign if it is there as it was placed.
func (p *placer) resultOf(ctx context.Context, w Wanted) (Placed, error) {
	if !filepath.IsLocal(w.Path) {
		return Placed{}, fmt.Errorf("place %q: not a path beneath %s", w.Path, p.dir)
	}
	size, err := w.Artifact.Size()
	if err != nil {
		return Placed{}, err
	}
	r := Placed{
		Label: w.Label, Output: w.Output, Path: filepath.Join(p.dir, w.Path), Mode: w.Mode,
		Size: size, Object: w.Artifact.Object(), Stored: w.Artifact.Stored(),
	}
	if r.Mode == 0 {
		r.Mode = 0o644
	}
	if p.to.Link && linkable(w.Artifact, r.Mode) {
		if r.link, err = w.Artifact.store.Whole(ctx, r.Object.Digest); err != nil {
			return Placed{}, err
		}
	}
	was, ok := p.known[filepath.Clean(w.Path)]
	if ok && was.Object.Digest == r.Object.Digest && was.Mode == r.Mode && was.Sign != "" && observe(r.Path) == was.Sign &&
		leads(r.Path, r.link) && !p.suspect(w.Artifact, r.Path) {
		r.Sign = was.Sign
	}
	return r, nil
}

// linkable reports whether a link to the object serves as the artifact. Objects have no
// permission to be run.
func linkable(a *Artifact, mode uint32) bool {
	return a.Stored() && a.Kind() == store.File && mode&0o111 == 0 && a.store.ReadOnly() == nil
}

// leads reports whether the path is a symbolic link to that one; with "" whether it is none.
func leads(path, to string) bool {
	found, _ := os.Readlink(path) // fails on what is no link
	return found == to
}

// suspect reports whether the copy of the artifact at path may be one of a damaged
// object. The store is asked once which those are.
func (p *placer) suspect(a *Artifact, path string) bool {
	if !a.Stored() {
		return false
	}
	damaged, ok := p.suspects[a.store]
	if !ok {
		damaged = a.store.Suspects()
		p.suspects[a.store] = damaged
	}
	var st unix.Stat_t
	return len(damaged) > 0 && statted(unix.Lstat, path, &st) && damaged.Copy(a.object, st.Ctim.Nano())
}

// placing is a result that is not there yet.
type placing struct {
	artifact *Artifact
	rel      string
	result   *Placed // gets the sign
	number   int     // in its batch
	claimed  bool    // the path was not b9's
	placed   bool    // the result is at its path
}

// staged is its name in the staging directory.
func (t *placing) staged() string { return strconv.Itoa(t.number) }

// bytes is what the result takes, at most.
func (t *placing) bytes() int64 {
	if t.result.link != "" {
		return 0
	}
	return t.result.Size
}

// placer places results in one directory.
type placer struct {
	to      Destination
	dir     string
	store   *store.Store
	root    *os.Root          // dir
	top     *os.File          // dir, to be flushed
	known   map[string]Placed // of what is wanted, from the file
	staging *staging
	made    bool // dir was, with whatever is above it
	retired retired
	umask   fs.FileMode
	told    progress

	suspects map[*store.Store]store.Suspects
}

func newPlacer(to Destination, wanted []Wanted) (*placer, error) {
	paths := make(map[string]bool, len(wanted))
	for _, w := range wanted {
		paths[filepath.Clean(w.Path)] = true
	}
	known, err := readPlaced(to.Dir, among(paths))
	p := &placer{to: to, dir: to.Dir, umask: to.Umask, known: known, suspects: map[*store.Store]store.Suspects{}}
	p.retired.closing.SetLimit(maxRetired)
	return p, err
}

func (p *placer) placeAll(ctx context.Context, todo []placing) (err error) {
	p.store = todo[0].artifact.store
	if err := p.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.fits(todo); err != nil {
		return err
	}
	if err := p.claim(ctx, todo); err != nil {
		return err
	}
	if err := p.nameLinks(todo); err != nil {
		return err
	}
	p.told = progress{to: p.to.Placing, total: dataOf(todo)}
	all := todo
	for len(todo) > 0 && err == nil {
		n := batch(todo)
		err = p.placeBatch(ctx, todo[:n])
		todo = todo[n:]
	}
	if err = errors.Join(err, p.save(ctx, all)); err != nil {
		return err
	}
	return p.flushNames(all)
}

// fits is an error if the data to copy is more than the file system has room for, where
// blocks can't be shared. What a batch replaces is gone before the next one is written.
func (p *placer) fits(todo []placing) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(p.top.Fd()), &st); err != nil {
		return nil // the writing meets it
	}
	var need, most int64
	for rest := todo; len(rest) > 0; {
		n := batch(rest)
		need += dataOf(rest[:n])
		most = max(most, need)
		for _, t := range rest[:n] {
			need -= p.replaced(t.rel)
		}
		rest = rest[n:]
	}
	free := int64(st.Bavail) * st.Bsize
	if most <= free || p.clones(todo) {
		return nil
	}
	return fmt.Errorf("place %s: %s to copy, and %s is free on its file system: free some there, name another directory with --out, or place links into the store with --place=link",
		p.dir, size.About(most), size.About(free))
}

// replaced is how many bytes go with the file that b9 placed at rel before.
func (p *placer) replaced(rel string) int64 {
	var st unix.Stat_t
	if _, ours := p.known[rel]; !ours || !statted(unix.Lstat, filepath.Join(p.dir, rel), &st) {
		return 0
	}
	return st.Blocks * 512
}

// clones reports whether the results can share blocks with the store.
func (p *placer) clones(todo []placing) bool {
	i := slices.IndexFunc(todo, func(t placing) bool {
		return t.artifact.Stored() && t.artifact.Kind() == store.File && t.result.link == ""
	})
	if i < 0 {
		return false
	}
	probe := filepath.Join(p.staging.path, "probe")
	defer os.Remove(probe)
	return todo[i].artifact.store.Clones(todo[i].artifact.Digest(), probe)
}

// nameLinks tells the store of the links that will be there. That is on the disk before
// they are: no link leads to what a collection took.
func (p *placer) nameLinks(todo []placing) error {
	links := map[string]store.Object{}
	for _, t := range todo {
		if t.result.link != "" {
			links[t.result.Path] = t.result.Object
		}
	}
	if len(links) == 0 {
		return nil
	}
	return p.store.NameLinks(p.dir, links)
}

// progress adds up what several goroutines placed.
type progress struct {
	mu          sync.Mutex
	to          func(done, total int64) // nil for nobody
	done, total int64                   // bytes
}

func (p *progress) add(n int64) {
	if p.to == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.to(p.done, max(p.done, p.total))
}

// dataOf is how many bytes of data are to be copied, as far as that is known.
func dataOf(todo []placing) (n int64) {
	for _, t := range todo {
		if t.result.link == "" {
			n += t.artifact.data()
		}
	}
	return n
}

// batch is how many of the first results are written before they get their names.
func batch(todo []placing) int {
	n, bytes := 1, todo[0].bytes()
	for n < len(todo) && bytes+todo[n].bytes() <= batchBytes {
		bytes += todo[n].bytes()
		n++
	}
	return n
}

// open makes the directory, and a staging directory in it, which keeps others from
// removing it. Somebody may before that: then it is made again.
func (p *placer) open(ctx context.Context) (err error) {
	for range 100 {
		_, err = os.Lstat(p.dir)
		p.made = p.made || errors.Is(err, fs.ErrNotExist)
		if err = p.enter(ctx); !errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
			break
		}
	}
	return err
}

func (p *placer) enter(ctx context.Context) (err error) {
	if err = newfile.MkdirAll(p.dir, 0o755&^p.umask); err != nil {
		return err
	}
	if p.root, err = os.OpenRoot(p.dir); err != nil {
		return err
	}
	if p.top, err = p.root.Open("."); err == nil {
		p.staging, err = newStaging(ctx, p.store, p.dir)
	}
	if err == nil && !isThere(p.top, p.dir) {
		err = fmt.Errorf("%s was removed meanwhile: %w", p.dir, fs.ErrNotExist)
	}
	if err != nil {
		err = errors.Join(err, p.close())
		p.root, p.top, p.staging = nil, nil, nil
	}
	return err
}

func (p *placer) close() error {
	err := p.retired.wait()
	if p.staging != nil {
		err = errors.Join(err, p.staging.close())
	}
	if p.top != nil {
		err = errors.Join(err, p.top.Close())
	}
	return errors.Join(err, p.root.Close())
}

// placeBatch writes some results, flushes them, and gives them their names.
func (p *placer) placeBatch(ctx context.Context, todo []placing) error {
	for i := range todo {
		todo[i].number = i
		if err := p.stage(ctx, &todo[i]); err != nil {
			return fmt.Errorf("place %s: %w", todo[i].result.Path, err)
		}
	}
	if err := p.flushContents(todo); err != nil {
		return err
	}
	if err := p.renameAll(ctx, todo); err != nil {
		return err
	}
	for i := range todo {
		todo[i].result.Sign = observe(todo[i].result.Path)
	}
	return nil
}

// renameAll gives staged results their paths. Meanwhile nobody removes the directories in
// which they are.
func (p *placer) renameAll(ctx context.Context, todo []placing) error {
	guard, err := p.store.LockFile(ctx, p.dir, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer guard.Close()
	for i := range todo {
		t := &todo[i]
		if err := p.rename(t); err != nil {
			return fmt.Errorf("place %s: %w", t.result.Path, err)
		}
		t.placed = true // the result has no sign yet
	}
	return nil
}

func (p *placer) stage(ctx context.Context, t *placing) error {
	path := filepath.Join(p.staging.path, t.staged())
	if t.result.link != "" {
		return os.Symlink(t.result.link, path)
	}
	if err := t.artifact.fork(ctx, path, store.Placing{Copied: p.told.add, Flush: true}); err != nil {
		return err
	}
	if t.artifact.Kind() == store.Tree {
		return p.shut(path)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := p.inherit(f); err != nil {
		return err
	}
	return f.Chmod(fs.FileMode(t.result.Mode) &^ p.umask)
}

// inherit gives what the placer made to whom the directory of the results belongs: root
// builds in a workspace of somebody else, too, who goes on with the results.
func (p *placer) inherit(f *os.File) error {
	dir, err := p.top.Stat()
	if err != nil {
		return err
	}
	return newfile.InheritFrom(f, dir)
}

// mkdirAll makes a directory for results, and those above it that are missing.
func (p *placer) mkdirAll(rel string) error {
	if rel == "." {
		return nil
	}
	if err := p.mkdirAll(filepath.Dir(rel)); err != nil {
		return err
	}
	err := p.root.Mkdir(rel, 0o755&^p.umask)
	if errors.Is(err, fs.ErrExist) {
		return nil // if it is no directory, to open it fails
	}
	if err != nil {
		return err
	}
	f, err := p.root.Open(rel)
	if err != nil {
		return err
	}
	return errors.Join(p.inherit(f), f.Close())
}

// shut closes a directory to those who, by the umask, may not read what this user makes.
// What is in it keeps its permissions: they are the result.
func (p *placer) shut(path string) error {
	var hidden fs.FileMode
	for _, who := range []fs.FileMode{0o070, 0o007} {
		if p.umask&who&0o055 != 0 {
			hidden |= who
		}
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&hidden == 0 {
		return err
	}
	return os.Chmod(path, info.Mode()&^hidden)
}

// rename gives a staged result its path. Where a directory is in the way the two
// are exchanged in one step, and the old one goes with the staging directory.
func (p *placer) rename(t *placing) error {
	if err := throughNoLink(p.root, t.rel); err != nil {
		return err
	}
	if err := p.mkdirAll(filepath.Dir(t.rel)); err != nil {
		return err
	}
	parent, err := p.root.Open(filepath.Dir(t.rel))
	if err != nil {
		return err
	}
	defer parent.Close()
	from, to, base := int(p.staging.lock.Fd()), int(parent.Fd()), filepath.Base(t.rel)
	defer p.retired.add(to, base)()
	err = unix.Renameat(from, t.staged(), to, base)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR):
		err = unix.Renameat2(from, t.staged(), to, base, unix.RENAME_EXCHANGE)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(p.staging.path, t.staged()))
}
