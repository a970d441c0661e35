package overlay

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/digest"
)

// message is what goes over a socket, in one packet, with open files beside it.
type message struct {
	// To the server: the files are a descriptor of /dev/fuse, a socket for the
	// image's own messages, the base and the differences, and one to write to.
	Of       digest.Digest
	Continue bool

	Progress bool // to the server: how far are the file's requests?

	Error        string // an answer: what went wrong
	Begun, Ended int64  // an answer: so many requests
}

const (
	maxPacket = 4 << 10 // bytes
	maxFiles  = 250     // of the 253 that the kernel passes at once
)

// answerLimit is how long the server may take for an answer. One that takes longer
// hangs, and is ended.
const answerLimit = time.Minute

// endLimit is how long the server may take to end.
const endLimit = 5 * time.Second

// requestLimit is how long no request for a file may end while there are some: as long as a
// task may wait for a disk before the kernel calls it hung.
const requestLimit = 2 * time.Minute

// socketPair returns two ends of a connection that keeps packets apart.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "socket")
	ours, err = connection(os.NewFile(uintptr(fds[0]), "socket"))
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return ours, theirs, nil
}

// connection takes over a socket.
func connection(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("not a unix socket"), c.Close())
	}
	return u, nil
}

// send sends m; the files stay the caller's to close.
func send(c *net.UnixConn, m message, files ...*os.File) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	if err := c.SetWriteDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	_, _, err = c.WriteMsgUnix(body[:min(len(body), maxPacket)], rights, nil)
	return err
}

// receive returns the next message and the files that came with it.
func receive(c *net.UnixConn) (m message, files []*os.File, err error) {
	body, rights := make([]byte, maxPacket), make([]byte, unix.CmsgSpace(4*(maxFiles+3)))
	n, k, _, _, err := c.ReadMsgUnix(body, rights)
	if err != nil {
		return m, nil, err
	}
	parts, err := unix.ParseSocketControlMessage(rights[:k])
	if err != nil {
		return m, nil, err
	}
	for i := range parts {
		fds, err := unix.ParseUnixRights(&parts[i])
		if err != nil {
			return m, files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "image"))
		}
	}
	return m, files, json.Unmarshal(body[:n], &m)
}
