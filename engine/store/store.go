// Package store keeps what builds produce, named by content, on one file
// system, for any number of processes at once.
//
// It hides how objects are laid out, made durable, found again, locked and
// collected. It does not know what an action is: a [Record] is a key with the
// objects it led to, and only the engine computes keys.
//
// What it keeps, each with its types and the methods of [Store] for them:
//
//   - Objects. An [Object] is a file or a tree, immutable, named by its
//     [Digest]. [Store.Adopt], [Store.AdoptBundle] and [Store.Import] make one;
//     [Store.Fork], [Store.Extract] and [Store.Bundle] give a private copy,
//     [Store.Path] the place of a file. [Store.FileDigest] and
//     [Store.TreeDigest] hash what is not in the store, and remember it.
//   - Records. A [Record] says what the action with a key produced. It is
//     written after everything that it names ([Store.Commit],
//     [Store.LookupOutputs]), and stays when that is collected
//     ([Store.Recorded], [Store.Learn]). [Store.LockKey] lets one process at a
//     time work on a key.
//   - Scratch. A [Scratch] is a private directory that dies with its process,
//     unless [Scratch.Keep] makes a [FailedStep] of it.
//   - Names. [Store.NameResults] keeps objects for as long as they are
//     someone's results, [Store.Latest] finds a record by its label, and
//     [Store.WriteNote] keeps a few bytes that only save time.
//   - Collection. [Store.Collect] and [Store.AutoCollect] remove by a [Policy]
//     what nobody needs; [Store.Verify] finds [Damage], and [Store.Usage]
//     counts.
//
// # What survives a crash
//
// Whatever the instruction at which a process or the machine stops, the names
// that exist lead to whole content. Four orders of writing see to that:
//
//   - An object is hashed and flushed under a scratch name, made read-only,
//     and only then renamed to its digest (adopt.go).
//   - A tree's manifest gets its name after the names of all its files were
//     flushed (adopt.go), and is unlinked before any of them (collect.go).
//   - A record gets its name after the names of its objects were flushed
//     (record.go, flush.go). So a record that is there after a power loss led
//     to objects that were there when it was written.
//   - A list of results is written anew and renamed over the old one
//     (results.go).
//
// What was being written lies in a scratch directory. Its lock died with its
// owner, and [Store.Reap] removes it. The index, the stat cache and the notes
// only save time: they carry checksums, are never
// flushed, and are made again when they are damaged or gone.
//
// # Collection while builds run
//
// Every open Store holds a lease, a locked file whose time is the moment of
// opening. Using an object brings its modification time up to a few minutes
// before that moment at least, so a collection leaves alone whatever has
// a time later than that under the oldest live lease; see collect.go.
package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/flock"
	"b9.build/b9/engine/internal/newfile"
)

// formatLine is the content of the file VERSION. The number is raised when
// an older b9 could no longer use the directory.
const formatLine = "b9 store 1\n"

// Directories below the store's. The first four, and the last, have a directory, made when
// it is needed, for each value of a digest's first byte.
const (
	objectsDir = "objects"
	treesDir   = "trees"
	recordsDir = "records"
	labelsDir  = "labels" // of a b9 before this one
	scratchDir = "scratch"
	failedDir  = "failed"
	resultsDir = "results"
	notesDir   = "notes"
	leasesDir  = "leases"
	locksDir   = "locks"
	checksDir  = "checks"
	leavesDir  = "leaves"
)

var subdirs = []string{objectsDir, treesDir, recordsDir, scratchDir, failedDir, resultsDir, notesDir, leasesDir, locksDir, checksDir, leavesDir, differencesDir}

// Files below the store's directory.
const (
	versionFile = "VERSION"
	indexFile   = "index"
	statFile    = "stat"
	saltFile    = "salt"
)

// Options adjust a store; the zero value is right for a build.
type Options struct {
	// Workers is how many goroutines hash or copy one file or tree.
	// Zero means one for each processor, but at least two and at most eight.
	Workers int
	// NoSync leaves out every flush to the disk. The store then survives
	// kill -9 but not power loss; it is meant for throw-away stores.
	NoSync bool
	// Grain is how old a file's last change must be before its times vouch
	// for its content: within the grain of a file system's clock a second
	// change may leave no trace. Zero means two seconds, the grain of the
	// coarsest clocks; less is for tests.
	Grain time.Duration
	// ForkAbove is how much data an object has, in bytes, above which a fork keeps
	// only what is written to it, where blocks can't be shared. Zero means 64 MiB;
	// less than zero, never.
	ForkAbove int64
	// Damaged is told of every damaged object that was found when it was to be used,
	// or by a collection, and removed. It may be called from several goroutines.
	Damaged func(Damage)
	// Waiting is told of a wait for another process that lasts for some seconds, and
	// of what that process is. It may be called from several goroutines.
	Waiting func(text string)
	// Interrupted is closed when no method may wait for another process any longer,
	// also one that has no context. Nil never is.
	Interrupted <-chan struct{}
}

// Store is an open store. Its methods may be called from many goroutines.
type Store struct {
	dir        string // absolute, free of symbolic links
	opts       Options
	root       *os.File    // dir
	owner      fs.FileInfo // of dir: to whom all that is in it belongs, whoever made it
	files      []*os.File  // root, the lease and the locks, for closing
	readOnly   error       // why nothing can be written; nil where it can
	lease      lease
	gate       gate
	flusher    flusher
	keys       keyLocks
	stats      *statCache
	index      *index
	pointers   func() bool // whether there may be some, see hasPointers
	checks     *checks
	used       useSet
	missed     useSet // objects that were asked for in vain, see renewMissed
	trailers   trailers
	due        chan Digest // differences that are to be flattened
	wholeTrees useSet      // trees whose files were all found to be there
	spares     spares
	roomMu     sync.Mutex
	roomTried  time.Time // when room was made last and there was too little; guarded by roomMu
	forks      forks
	tempMu     sync.Mutex
	temp       *Scratch // for the store's own unfinished files, made on first use
	closing    sync.Once
}

// Open opens the store in dir, and creates it when dir is absent or empty.
// It fails when dir holds something else, or a format this b9 does not know.
// Where nothing can be written, on a file system that is mounted read-only or as a
// user who may only read, what is there can be used: see [Store.ReadOnly].
func Open(dir string, opts Options) (*Store, error) {
	real, err := prepare(dir, opts)
	if err != nil {
		return nil, err
	}
	if opts.Workers <= 0 {
		opts.Workers = defaultWorkers()
	}
	if opts.Grain == 0 {
		opts.Grain = coarsestGrain
	}
	s := &Store{dir: real, opts: opts, due: make(chan Digest, manyDue)}
	if err := s.open(); err != nil {
		s.closeFiles()
		return nil, fmt.Errorf("open store %s: %w", dir, err)
	}
	return s, nil
}

func defaultWorkers() int { return min(max(runtime.GOMAXPROCS(0), 2), 8) }

func (s *Store) open() (err error) {
	if s.root, err = s.hold(os.Open(s.dir)); err != nil {
		return err
	}
	if s.owner, err = s.root.Stat(); err != nil {
		return err
	}
	s.stats = newStatCache(filepath.Join(s.dir, statFile), s.writeQuickly)
	s.index = newIndex(filepath.Join(s.dir, indexFile))
	s.pointers = sync.OnceValue(s.hasPointers)
	s.checks = &checks{dir: filepath.Join(s.dir, checksDir), write: s.writeQuickly}
	if s.lease.f, err = s.hold(openLease(filepath.Join(s.dir, leasesDir))); isReadOnly(err) {
		s.readOnly = err
		return nil
	}
	if err != nil {
		return err
	}
	if s.lease.start, err = mtime(s.lease.f); err != nil {
		return err
	}
	if s.gate.f, err = s.hold(openFile(s.lockPath("gate"))); err != nil {
		return err
	}
	s.gate.wait = func(f *os.File, how flock.Mode) error {
		return s.brief("it has the store locked").Wait(s.uninterrupted(), f, how)
	}
	// A collector that looked for leases before ours existed holds the gate
	// until it has acted on what it saw.
	if err := s.gate.pass(func() error { return nil }); err != nil {
		return err
	}
	s.keys.f, err = s.hold(openFile(s.lockPath("keys")))
	return err
}

// hold has the file closed with the Store.
func (s *Store) hold(f *os.File, err error) (*os.File, error) {
	if err == nil {
		s.files = append(s.files, f)
	}
	return f, err
}

// openFile opens a file, and makes it when it is not there.
func openFile(path string) (*os.File, error) { return newfile.Open(path, 0, 0o600) }

func touchFile(path string) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// ReadOnly says why nothing can be written to the store; nil where it can be. Of a
// store that can only be read, objects, records and logs can be had and verified.
// Nothing keeps them from being collected, as a lease does, by who may write.
func (s *Store) ReadOnly() error {
	if s.readOnly == nil {
		return nil
	}
	return fmt.Errorf("the store %s can only be read: choose another with --store: %w", s.dir, s.readOnly)
}

// Dir returns the store's directory: absolute, without symbolic links.
func (s *Store) Dir() string { return s.dir }

// Close gives up the lease, renews the records that were of use without
// their objects, and saves what the stat cache learned. Scratch directories
// that are still open stay until their own Close.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		if s.readOnly != nil {
			s.closeFiles()
			return
		}
		s.stats.flush() // a lost cache entry only costs a rehash
		s.renewMissed()
		s.spares.close()
		s.tempMu.Lock()
		if s.temp != nil {
			err = s.temp.remove()
		}
		s.tempMu.Unlock()
		err = errors.Join(err, s.closeForks())
		s.closeFiles()
	})
	return err
}

func (s *Store) closeFiles() {
	for _, f := range slices.Backward(s.files) {
		f.Close()
	}
}

// Path returns the file of the file object d, which must not be written to. It holds the
// object's bytes only if the object is no difference: [Store.Open] and [Store.Expose] give
// those of all.
func (s *Store) Path(d Digest) string { return s.objectPath(Object{Kind: File, Digest: d}) }

func (s *Store) treePath(d Digest) string { return s.shard(treesDir, d) }

func (s *Store) objectPath(o Object) string {
	var st unix.Stat_t
	kind, _ := s.find(o, &st)
	return s.shard(kind, o.Digest)
}

func (s *Store) shard(kind string, d Digest) string { return s.dir + "/" + shardName(kind, d) }

// shardName is the path below the store's directory.
func shardName(kind string, d Digest) string {
	var room [96]byte
	b := append(append(room[:0], kind...), '/')
	b = append(hex.AppendEncode(b, d[:1]), '/')
	return string(hex.AppendEncode(b, d[:]))
}

// lstat asks for the state of a sharded file, from the store's directory on: the shorter
// the way, the quicker.
func (s *Store) lstat(kind string, d Digest, st *unix.Stat_t) error {
	name, at := shardName(kind, d), int(s.root.Fd())
	return ignoringEINTR(func() error { return unix.Fstatat(at, name, st, unix.AT_SYMLINK_NOFOLLOW) })
}

func (s *Store) lockPath(name string) string { return filepath.Join(s.dir, locksDir, name) }

// tempDir returns this Store's own scratch directory.
func (s *Store) tempDir() (string, error) {
	s.tempMu.Lock()
	defer s.tempMu.Unlock()
	if s.temp == nil {
		t, err := s.Scratch("store")
		if err != nil {
			return "", err
		}
		s.temp = t
	}
	return s.temp.Dir(), nil
}

// ErrNotInStore is returned for an object that the store does not have.
var ErrNotInStore = errors.New("not in the store")
