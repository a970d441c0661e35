// Package userfs answers for a file system in an image that the kernel mounts through
// FUSE, because it has no driver for it. It reads images with the readers of
// engine/fsys, and changes vfat in place with their editor; it opens no device and
// mounts nothing. The server lives in the process that starts containers, outside of
// their memory limits: when that process dies, the kernel ends the connection, and
// nobody waits for an answer any more.
//
//	Start       begins to answer requests of a mount
//	Server      ends when the mount is gone
//	Serves      which file systems there are readers for
//
// Requests are go-fuse's business; reader.go has the files of what is only read,
// writer.go those of vfat.
package userfs

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	nodefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/vfat"
)

// MaxRead is the largest request, in bytes, which the mount has to be told.
const MaxRead = 128 << 10

// Serves tells whether file systems of a kind, as fsys.Probe names it, can be served.
func Serves(kind string) bool {
	switch kind {
	case "iso9660", "squashfs", "vfat":
		return true
	}
	return false
}

// Image is the part of an open file that holds a file system.
type Image struct {
	File           *os.File
	Offset, Length int64 // bytes
	Kind           string
	ReadOnly       bool // a vfat is not changed
}

// ReadAt implements io.ReaderAt.
func (i *Image) ReadAt(b []byte, off int64) (int, error) { return i.File.ReadAt(b, i.Offset+off) }

// WriteAt implements io.WriterAt.
func (i *Image) WriteAt(b []byte, off int64) (int, error) { return i.File.WriteAt(b, i.Offset+off) }

// Server answers requests for the file system of an image.
type Server struct {
	ended  chan struct{}
	finish func() error

	mu     sync.Mutex
	failed error // what could not be answered
}

// Start takes over device, a descriptor of /dev/fuse with a mount at its other end,
// and answers its requests until the mount is gone. The image stays in use so long.
func Start(device int, image Image) (*Server, error) {
	s := &Server{ended: make(chan struct{}), finish: func() error { return nil }}
	root, o, err := s.root(&image)
	if err != nil {
		unix.Close(device)
		return nil, err
	}
	o.MaxWrite, o.Logger, o.NullPermissions = MaxRead, log.New(io.Discard, "", 0), true
	// One request at a time, in the order in which they come: the room of a file that
	// was closed and removed is free for the next one.
	o.MaxInflightRequestBytes = 1
	o.MountOptions.Logger = o.Logger
	o.PanicHandler = func(cause any) fuse.Status {
		s.fail(fmt.Errorf("its reader failed: %v", cause))
		return fuse.EIO
	}
	server, err := fuse.NewServer(nodefs.NewNodeFS(root, o), fmt.Sprintf("/dev/fd/%d", device), &o.MountOptions)
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
func (s *Server) root(image *Image) (nodefs.InodeEmbedder, *nodefs.Options, error) {
	if image.Kind == "vfat" && !image.ReadOnly {
		e, err := vfat.Edit(image, image.Length)
		if err != nil {
			return nil, nil, err
		}
		s.finish = e.Close
		v := &volume{server: s, editor: e}
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

// fail remembers the first failure.
func (s *Server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
}

// ErrMounted is the error of a Close that has waited in vain.
var ErrMounted = errors.New("is still mounted")

// Close waits until the mount is gone, patience at most, and completes the image. The
// error tells that what was written is not in it, and for one that is only read what
// could not be.
func (s *Server) Close(patience time.Duration) error {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-s.ended:
	case <-late.C:
		return ErrMounted
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.failed, s.finish())
}

// errno is the number of an error for the program that made the request. What is no
// refusal of the file system's is a failure.
func (s *Server) errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if n, ok := err.(unix.Errno); ok {
		return n
	}
	s.fail(err)
	return unix.EIO
}
