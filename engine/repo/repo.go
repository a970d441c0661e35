// Package repo keeps shared images, and finished build steps, in repositories
// that several machines use: a directory, or a directory behind a plain
// OpenSSH server. Only data that the other side lacks travels.
//
// It hides the format of a repository (docs/repositories.md), blocks, packs
// and compression, SFTP, resuming and what makes concurrent writers safe. It
// knows no store and no build: it takes files and gives files.
//
//   - [Location] says where a repository is, [Open] and [Create] give a [Repo].
//   - [Repo.List] and [Repo.Resolve] give a [Version]; [Repo.Push] makes one
//     from a file, [Repo.Pull] a file from one, and [Transfer] says what moved.
//   - [Repo.Remove], [Repo.Clean] and [Repo.Check] look after what is there.
//   - [Repo.LookupStep], [Repo.PublishStep] and [Repo.Fetch] are a cache of
//     build steps by key.
package repo

import (
	"context"
	"errors"
	"time"
)

// Errors that callers branch on, found with errors.Is.
var (
	// ErrNotFound: no such name, version, digest or step.
	ErrNotFound = errors.New("not in the repository")
	// ErrNoRepository: the location holds no repository (or is not there).
	ErrNoRepository = errors.New("no b9 repository")
	// ErrVersionTaken: the version exists with another content.
	ErrVersionTaken = errors.New("version exists with another content")
	// ErrDamaged: something in the repository is wrong, short or missing.
	ErrDamaged = errors.New("damaged")
	// ErrReadOnly: the repository's kind or layout can only be read.
	ErrReadOnly = errors.New("repository can only be read")
)

// Options say how a repository is used. The zero value is usable.
type Options struct {
	// State is a directory of this machine for what spares work and may be
	// lost at any time: indexes of packs, unfinished pushes, what was
	// pulled where. Empty: nothing is remembered, and an interrupted push
	// starts anew. Several processes may share it.
	State string
	// SSH says how ssh locations are reached.
	SSH SSHOptions
	// Progress, if set, is called from one goroutine at a time, at most
	// about ten times a second, and once at the end of a transfer.
	Progress func(Progress)
	// Timeout bounds the wait for one answer of the server, in which
	// nothing arrives. Zero means 60 s.
	Timeout time.Duration
	// Workers is how many goroutines hash and compress. Zero means the
	// number of processors, at most 8.
	Workers int
}

// Progress is the state of a running push or pull.
type Progress struct {
	Name  string // of the image or the step's object
	Done  int64  // bytes of image data that are settled, moved or not
	Total int64  // bytes of image data, holes left out; for a push an estimate
	Transfer
}

// Transfer is what a push or pull moved, in bytes. Sent and Received count
// what passed the network connection, encryption and SFTP included; for a
// directory, what was written to and read from it.
type Transfer struct {
	Sent     int64         `json:"sent"`
	Received int64         `json:"received"`
	New      int64         `json:"new"`    // image data that had to move, before compression
	Reused   int64         `json:"reused"` // image data that was already there
	Holes    int64         `json:"holes"`  // of the image: holes and zeros
	Total    int64         `json:"total"`  // size of the image: New + Reused + Holes
	Elapsed  time.Duration `json:"elapsed"`
}

// Version is one published state of a shared image.
type Version struct {
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	Digest      Digest    `json:"digest"` // of the content: the definition of the store
	Format      string    `json:"format"` // "raw", "qcow2", ...: what the publisher said
	Size        int64     `json:"size"`   // bytes, holes included
	Data        int64     `json:"data"`   // bytes, holes and zeros left out
	FileSystems []string  `json:"file_systems,omitempty"`
	Key         string    `json:"key,omitempty"` // of the build step that made it
	Origin      Origin    `json:"origin"`
	Created     time.Time `json:"created"`           // by the publisher's clock: for people, it orders nothing
	Parent      string    `json:"parent,omitempty"`  // name@version of the shared image it was built from
	Backing     string    `json:"backing,omitempty"` // digest of the image it needs as backing file
}

// Origin says who published a version and from where.
type Origin struct {
	User  string `json:"user,omitempty"`
	Host  string `json:"host,omitempty"`
	Label string `json:"label,omitempty"` // of the target
	B9    string `json:"b9,omitempty"`    // version of b9
}

// Selector chooses a version: the newest of Name, if nothing else is given;
// that with the given Version, or the newest with the given Digest.
type Selector struct {
	Name    string
	Version string
	Digest  Digest
}

// PushSpec is an image to publish.
type PushSpec struct {
	Path string // a regular file; it must not change meanwhile
	Name string // see [ValidName]
	// Version names the version; see [ValidName]. Empty: if the newest
	// version has the same content, format and backing file, that one is
	// returned and nothing is published; otherwise the version is the time
	// in UTC and the start of the digest: "20260102-150405-1a2b3c4d".
	Version     string
	Format      string
	FileSystems []string
	Key         string
	Origin      Origin
	Created     time.Time // zero: now
	Parent      string
	Backing     string
}

// PullOptions are the choices of one pull.
type PullOptions struct {
	// Bases are local image files whose data is used instead of being
	// fetched. One that can't be read, or changes meanwhile, is no error.
	Bases []string
}

// Damage is one thing that is wrong in a repository.
type Damage struct {
	Path  string   `json:"path"`  // relative to the repository
	What  string   `json:"what"`  // the fault, in a few words
	Hurts []string `json:"hurts"` // NAME@VERSION or "step KEY", which can't be had in whole
}

// CleanReport is what [Repo.Clean] took away.
type CleanReport struct {
	Removed []Version `json:"removed"` // oldest first
	Files   int       `json:"files"`   // that nothing needed any more
	Bytes   int64     `json:"bytes"`   // of these files
}

// Step is a finished build step in the shared cache.
type Step struct {
	Key     string
	Record  []byte // as it was published
	Objects []Object
}

// Object is one file that belongs to a step.
type Object struct {
	Name   string
	Digest Digest
	Size   int64
	recipe recipeRef
}

// StepFile is a file to publish with a step.
type StepFile struct {
	Name string // unique in the step; see [ValidName]
	Path string
}

// Repo is an open repository. Its methods may be used by several goroutines.
type Repo struct {
	loc  Location
	opts Options
}

// Open opens the repository at loc. The error is (or wraps) [ErrNoRepository]
// if there is none; one with a format that this b9 does not know, and what
// is not reachable, are other errors. A directory b9_shared_images of the
// program's forerunner, or one above it, is opened for reading.
func Open(ctx context.Context, loc Location, opts Options) (*Repo, error) {
	return nil, errUnwritten
}

// Create makes a repository at loc and opens it; the directory and its
// parents are made where they are missing. If there is a repository already
// it is opened.
func Create(ctx context.Context, loc Location, opts Options) (*Repo, error) {
	return nil, errUnwritten
}

// Close ends the connection. It waits for nothing.
func (r *Repo) Close() error {
	return errUnwritten
}

// Location returns where the repository is.
func (r *Repo) Location() Location {
	return r.loc
}

// List returns the versions of an image, or of all if name is empty, newest
// first. Newest is what was published last, whatever the clocks say.
func (r *Repo) List(ctx context.Context, name string) ([]Version, error) {
	return nil, errUnwritten
}

// Resolve returns the version that s chooses. The error wraps [ErrNotFound]
// if there is none, and then names what there is.
func (r *Repo) Resolve(ctx context.Context, s Selector) (Version, error) {
	return Version{}, errUnwritten
}

// Push publishes the file s.Path. What the repository holds is not sent
// again, nor what an interrupted push of this machine (see [Options].State)
// had sent. The version is visible once everything it needs is there and
// flushed; until then, and after an error, the repository is as it was. A
// version that exists with this content is returned with nothing sent; with
// another content the error wraps [ErrVersionTaken].
func (r *Repo) Push(ctx context.Context, s PushSpec) (Version, Transfer, error) {
	return Version{}, Transfer{}, errUnwritten
}

// Pull makes dst a sparse file with the content of v, which came from List,
// Resolve or Push, or has at least Name and Digest. Every block is verified
// before it is used, and the whole by v.Digest at the end; dst is replaced
// only then, by a rename. If dst is already that content, which takes no
// reading when an earlier pull made it and it did not change, nothing is
// done. What an interrupted pull to the same dst had fetched is used again.
func (r *Repo) Pull(ctx context.Context, v Version, dst string, opts PullOptions) (Transfer, error) {
	return Transfer{}, errUnwritten
}

// Remove takes a version out of the list. Its data stays until [Repo.Clean].
func (r *Repo) Remove(ctx context.Context, v Version) error {
	return errUnwritten
}

// Clean removes all but the newest keep versions of each name (all stay if
// keep is negative), and then the files that no version and no step needs. It is safe
// beside pushes: a push that relied on a file taken away sends it again. A
// file younger than grace, by the server's clock alone, is kept because an
// unfinished push may want it; 24 h is a good choice.
func (r *Repo) Clean(ctx context.Context, keep int, grace time.Duration) (CleanReport, error) {
	return CleanReport{}, errUnwritten
}

// Check reads the repository and returns what is damaged. Without deep
// the files' presence, size and index are looked at; with deep every block
// is read and compared with its digest. An error means that the repository
// could not be examined.
func (r *Repo) Check(ctx context.Context, deep bool) ([]Damage, error) {
	return nil, errUnwritten
}

// LookupStep returns the step with the key, or an error that wraps
// [ErrNotFound]. What was published is read once; later calls answer from
// memory, so that a build asks the server only once for all its steps.
func (r *Repo) LookupStep(ctx context.Context, key string) (Step, error) {
	return Step{}, errUnwritten
}

// PublishStep adds a step: record (at most 1 MiB), and files, which are sent
// as Push does. A step that is there already is left as it is.
func (r *Repo) PublishStep(ctx context.Context, key string, record []byte, files []StepFile) (Transfer, error) {
	return Transfer{}, errUnwritten
}

// Fetch makes dst the content of a step's object, as [Repo.Pull] does.
func (r *Repo) Fetch(ctx context.Context, o Object, dst string, opts PullOptions) (Transfer, error) {
	return Transfer{}, errUnwritten
}

var errUnwritten = errors.New("not written yet")

// recipeRef names the recipe of a content.
type recipeRef struct{}
