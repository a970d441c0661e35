// Package overlay shows an image and the differences to it as one file, which any
// program opens, and loop devices take, without a copy being made first. The kernel
// gets the file's bytes through FUSE from a process of its own; what is written goes
// into a file of package layer.
//
//	Main            does the work of that process in a process that was started for it
//	Start, Server   starts it; it serves any number of files
//	Image, File     what is to be served, and what is served
//
// # Why a process of its own
//
// A process that waits for an answer of a FUSE server can't be killed until it has
// one. Were b9 the server of files that it uses itself (it reads superblocks, mounts
// loop devices, flushes file systems), a b9 that is killed at that moment would never
// end: the thread that waits keeps the server's descriptor open, and the threads that
// could answer are dead. So the server touches nothing that it serves. When b9 dies
// its socket is closed, the server ends, and the kernel ends the connections: whoever
// still waits gets an error.
//
// The server must not wait for memory that only its own work frees: it is in no
// container's memory limit, tells the kernel that it is needed to write data back
// (PR_SET_IO_FLUSHER), and keeps what it uses of its own memory in memory.
//
// A server that waits itself, for a disk that does not answer or for memory, ends no request
// and can't be killed, either. It is asked for what it has done, and where that is nothing
// for two minutes, or it is to end and does not, the connections of its files are ended:
// whoever waits gets an error then, too.
//
// The mounts lie in no directory. They belong to descriptors, and are gone with the
// last of these. Making them takes CAP_SYS_ADMIN, which root of a user namespace has.
package overlay

import (
	"errors"
	"os"
	"sync/atomic"

	"b9.build/b9/engine/internal/digest"
)

// arg is the first argument of the process that serves. Its descriptor 3 is the socket.
const arg = "b9-serve-images"

// largest is the size of the largest request in bytes. Larger ones do not fit into the
// pipes that pass the bytes on without a copy.
const largest = 512 << 10

// prepared tells that Main was called. It is of the process as a whole, as the
// arguments of the program are: without Main this program, run again, would not serve
// but begin its own work once more.
var prepared atomic.Bool

// Main must be among the first calls of main of a program that serves images: the
// server is this program run again. If this process is the server it does the
// server's work and never returns.
func Main() {
	if len(os.Args) == 2 && os.Args[1] == arg {
		os.Exit(serveAll())
	}
	prepared.Store(true)
}

// ErrUnavailable is in the errors of [Start] and [Server.Serve] that say that here
// nothing can be served at all: no FUSE, no right to mount, no call of Main.
var ErrUnavailable = errors.New("no image can be served here")

// Image is what is to be served.
type Image struct {
	// Files are the base and the differences above it, the lowest first.
	Files []*os.File
	// Of is the digest of the image that they make, for a difference to it.
	Of digest.Digest
	// Difference takes what is written: an empty file, or with Continue one that a
	// fork of the same image was finished in.
	Difference *os.File
	Continue   bool
}
