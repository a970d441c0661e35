// Package fuse answers for a file system in an image that the kernel mounts through
// FUSE, because it has no driver for it. It reads images with the readers of
// engine/fsys, and changes vfat in place with their editor; it opens no device and
// mounts nothing. The server lives in the process that starts containers, outside of
// their memory limits: when that process dies, the kernel ends the connection, and
// nobody waits for an answer any more.
//
//	FileSystems  what package container is to know of file systems
//
// Requests are go-fuse's business; reader.go has the files of what is only read,
// writer.go those of vfat.
package fuse

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	gofuse "github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/vfat"
)

// FileSystems is what b9 knows of file systems, for container.Config.
type FileSystems struct{}

// Probe names the file system in an image of size bytes as fsys.Probe does: "" for none
// that is known.
func (FileSystems) Probe(image io.ReaderAt, size int64) (kind string, err error) {
	info, err := fsys.ProbeAt(image, size)
	return info.Type, err
}

// Serve answers for a part of an image.
func (FileSystems) Serve(device int, image *os.File, offset, length int64, kind string, readOnly bool, largest int) (served, error) {
	return start(device, &part{File: image, Offset: offset, Length: length, Kind: kind, ReadOnly: readOnly}, largest)
}

// served is container.Served.
type served = interface {
	Close(patience time.Duration) error
	Progress() (begun, ended int64)
}

// Serves tells whether file systems of a kind can be served.
func (FileSystems) Serves(kind string) bool {
	switch kind {
	case "iso9660", "squashfs", "vfat":
		return true
	}
	return false
}

// part is the part of an open file that holds a file system.
type part struct {
	File           *os.File
	Offset, Length int64 // bytes
	Kind           string
	ReadOnly       bool // a vfat is not changed

	begun, ended atomic.Int64 // reads and writes
}

// ReadAt implements io.ReaderAt.
func (i *part) ReadAt(b []byte, off int64) (int, error) {
	i.begun.Add(1)
	defer i.ended.Add(1)
	return i.File.ReadAt(b, i.Offset+off)
}

// WriteAt implements io.WriterAt.
func (i *part) WriteAt(b []byte, off int64) (int, error) {
	i.begun.Add(1)
	defer i.ended.Add(1)
	return i.File.WriteAt(b, i.Offset+off)
}

// service answers requests for the file system of an image.
type service struct {
	image  *part
	ended  chan struct{}
	finish func() error

	mu     sync.Mutex
	failed error // what could not be answered
}

// start takes over device, a descriptor of /dev/fuse with a mount at its other end,
// and answers its requests until the mount is gone. The image stays in use so long.
// The largest request has that many bytes, which the mount has been told.
func start(device int, image *part, largest int) (*service, error) {
	s := &service{image: image, ended: make(chan struct{}), finish: func() error { return nil }}
	root, o, err := s.root(image)
	if err != nil {
		unix.Close(device)
		return nil, err
	}
	o.MaxWrite, o.Logger, o.NullPermissions = largest, log.New(io.Discard, "", 0), true
	// One request at a time, in the order in which they come: the room of a file that
	// was closed and removed is free for the next one.
	o.MaxInflightRequestBytes = 1
	o.MountOptions.Logger = o.Logger
	o.PanicHandler = func(cause any) gofuse.Status {
		s.fail(fmt.Errorf("its reader failed: %v", cause))
		return gofuse.EIO
	}
	server, err := gofuse.NewServer(nodefs.NewNodeFS(root, o), fmt.Sprintf("/dev/fd/%d", device), &o.MountOptions)
	if err != nil {
		return nil, fmt.Errorf("FUSE: %w", err)
	}
	go func() {
		defer close(s.ended)
		server.Serve()
	}()
	return s, nil
}

// root is the root directory, and how long the kernel may remember what is in it.
func (s *service) root(image *part) (nodefs.InodeEmbedder, *nodefs.Options, error) {
	if image.Kind == "vfat" && !image.ReadOnly {
		e, err := vfat.Edit(image, image.Length)
		if err != nil {
			return nil, nil, err
		}
		s.finish = e.Close
		v := &volume{server: s, editor: e, changes: newChanges()}
		return &object{v: v, o: e.Root()}, &nodefs.Options{}, nil
	}
	r, err := fsys.NewReader(image, image.Length)
	if err != nil {
		return nil, nil, err
	}
	long := time.Hour // nothing changes
	src := &source{server: s, reader: r, size: image.Length}
	o := &nodefs.Options{EntryTimeout: &long, AttrTimeout: &long, NegativeTimeout: &long}
	o.EnableSymlinkCaching = true
	return &file{src: src, name: "."}, o, nil
}

// dots are the entries that every directory of a kernel's driver begins with.
func dots() []gofuse.DirEntry {
	return []gofuse.DirEntry{{Name: ".", Mode: unix.S_IFDIR}, {Name: "..", Mode: unix.S_IFDIR}}
}

// fail remembers the first failure.
func (s *service) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// Close waits until the mount is gone, patience at most, and completes the image. The
// error is EBUSY where it has waited in vain; another one tells that what was written is not in it, and for one that is only read what
// could not be.
func (s *service) Close(patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-s.ended:
	case <-late.C:
		return unix.EBUSY
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failed, s.finish())
}

// Progress implements container.Served. What has ended is counted first: where both numbers are
// the same, there was a moment without access.
func (s *service) Progress() (begun, ended int64) {
	ended = s.image.ended.Load()
	return s.image.begun.Load(), ended
}

// errno is the number of an error for the program that made the request. What is no
// refusal of the file system's is a failure.
func (s *service) errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if n, ok := err.(unix.Errno); ok {
		return n
	}
	s.fail(err)
	return unix.EIO
}
