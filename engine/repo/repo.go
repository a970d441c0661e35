// Package repo keeps shared images, and finished build steps, in repositories
// that several machines use: a directory, or a directory behind a plain
// OpenSSH server. Only data that the other side lacks travels.
//
// It hides the format of a repository (docs/repositories.md), blocks, packs
// and compression, resuming and what makes concurrent writers safe. It knows
// no store and no build: it takes files and gives files.
//
//   - [Location] says where a repository is, [Open] and [Create] give a [Repo];
//     [Options] say how it is used.
//   - [Repo.List] and [Repo.Resolve], with a [Selector], give a [Version];
//     [Repo.Push] makes one from the file of a [PushSpec], [Repo.Pull] a file
//     from one. [Transfer] says what moved, [Progress] what has so far.
//   - [Repo.Remove], [Repo.Clean] and [Repo.Check] look after what is there,
//     with [CleanOptions], [CleanReport] and [Damage].
//   - [Repo.LookupStep], [Repo.PublishStep] and [Repo.Fetch] are a cache of
//     build steps by key: a [Step] has [Object]s, made from [StepFile]s.
//
// Inside: log.go is the order of everything, pack.go and manifest.go are what
// is stored, known.go, scan.go, upload.go and push.go the way there, pull.go
// and download.go the way back, clean.go and check.go collection and checking,
// state.go, journal.go and logcopy.go what this machine keeps. Package
// internal/backend keeps the files, in a directory or over SFTP, and
// engine/ssh reaches the server.
package repo

import (
	"errors"
	"fmt"
	"time"

	"b9.build/b9/engine/repo/internal/backend"
	"b9.build/b9/engine/ssh"
)

// Errors that callers branch on, found with errors.Is.
var (
	// ErrNotFound: no such name, version, digest or step.
	ErrNotFound = errors.New("not in the repository")
	// ErrVersionTaken: the version exists with another content.
	ErrVersionTaken = errors.New("version exists with another content")
	// ErrDamaged: something in the repository is wrong, short or missing.
	ErrDamaged = backend.ErrDamaged
	// ErrReadOnly: the repository's layout can only be read.
	ErrReadOnly = errors.New("a repository of the rsync era can only be read")
	// ErrUnreachable: the server can't be reached or logged in to, or the
	// connection ended.
	ErrUnreachable = backend.ErrUnreachable
	// ErrSource: the local file can't be published: it is gone, changed
	// meanwhile or too large.
	ErrSource = errors.New("not to be published")
)

// errNoRepository: the location holds no repository, or is not there.
var errNoRepository = errors.New("no b9 repository")

// wrap puts before *err, unless it is nil, what was done, and where.
func wrap(err *error, format string, args ...any) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), *err)
	}
}

// Options say how a repository is used. The zero value is usable.
type Options struct {
	// State is a directory of this machine for files that save work and may
	// be lost at any time: indexes of packs, unfinished pushes, the digests
	// of pulled files. Empty: nothing is remembered, and an interrupted push
	// starts anew. Several processes may share it.
	State string
	// SSH says how ssh locations are reached.
	SSH ssh.Options
	// Progress, if set, is called from one goroutine at a time, at most
	// about ten times a second, and once at the end of a transfer.
	Progress func(Progress)
	// Timeout is how long the server may send nothing while an answer is
	// awaited. Zero means 60 s.
	Timeout time.Duration
	// Waiting, if set, is told of a process that keeps a file of a repository in a
	// directory locked for seconds.
	Waiting func(holder string)
	// workers is how many goroutines hash and compress. Zero means the
	// number of processors, at most 8.
	workers int
}

// Progress is the state of a running push or pull.
type Progress struct {
	Name  string // of the image or the step's object
	Done  int64  // bytes of image data that were moved or found here
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
	Data        int64     `json:"data"`   // bytes, holes and blocks of zeros left out
	FileSystems []string  `json:"file_systems,omitempty"`
	Key         string    `json:"key,omitempty"` // of the build step that made it
	Origin      Origin    `json:"origin"`
	Created     time.Time `json:"created"`          // by the publisher's clock: for people, it orders nothing
	Parent      string    `json:"parent,omitempty"` // name@version of the shared image it was built from
}

// Origin says who published a version and from where.
type Origin struct {
	User  string `json:"user,omitempty"`
	Host  string `json:"host,omitempty"`
	Label string `json:"label,omitempty"` // of the target
	B9    string `json:"b9,omitempty"`    // version of b9
	// Source and Commit are where the build files come from: the URL of
	// the git remote "origin", without user and password, and the commit
	// that was checked out. They do not tell of changes since.
	Source string `json:"source,omitempty"`
	Commit string `json:"commit,omitempty"`
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
	// Objects, unless nil, has the content under Digest, and Path does not count. What is
	// known to be in the repository by the hashes that it keeps is not read.
	Objects Objects
	// Digest is the content's where the caller knows it. A file with another
	// digest was changed meanwhile. Without it the file's time tells.
	Digest Digest
	Name   string // see [ValidName]
	// Version names the version; see [ValidName]. Empty: if the newest
	// version has the same content and format, that one is returned and
	// nothing is published; otherwise the version is the time in UTC and the
	// start of the digest: "20260102-150405-1a2b3c4d".
	Version     string
	Format      string // a qcow2 that names a backing file is refused
	FileSystems []string
	Key         string // of the build step that made it
	Origin      Origin
	Created     time.Time // zero: now
	Parent      string    // [Version.Ref] of the shared image it was built from; its data is not sent again
}

// PullOptions are the choices of one pull.
type PullOptions struct {
	// Bases are local image files. A block that one of them has is not
	// fetched. One that can't be read, or changes meanwhile, is no error.
	Bases []string
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
	Name    string // unique in the step; see [ValidName]
	Path    string
	Digest  Digest  // as in [PushSpec]
	Objects Objects // as in [PushSpec]
}
