package helper

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
)

// A wire carries messages and open files between the two sides of a run. Both
// sides trust each other: they are one program. When one side dies the other
// reads io.EOF.
type wire struct{ conn *net.UnixConn }

// message is one of its members, the others are nil.
type message struct {
	Request *Request
	Stop    *stop
	Console *console
	Started *started
	Nodes   *nodeCalls
	Outcome *outcome
}

// Request asks the container's side to run a command. The files that come
// with it are the mounts in order, what the command is lent, if anything, without a
// terminal standard input, output and error, the network namespace if there is one,
// and last a user namespace if there is one.
type Request struct {
	Spec       container.Spec
	Secrets    []secret.Text // which the spec on the wire is without
	Console    *windowSize   // not nil for a terminal of that size
	Scratch    string        // a directory to mount on
	Cgroup     string        // name for a control group, "" when limits are not ours to set
	Devices    string        // name for a device group to make and join, "" where the process is in one
	NetNone    bool          // make a network namespace with loopback only
	NetFile    bool          // join the network namespace that comes with the request
	ResolvConf []byte        // content of /etc/resolv.conf, nil to leave it
	Emulated   bool          // an emulator runs the command
	OwnUsers   bool          // in the user namespace that comes along
	Hosts      []byte        // lines that /etc/hosts has beside the image's and the container's own
}

// stop asks to end the command: SIGTERM, the grace, SIGKILL.
type stop struct{ Grace time.Duration }

// started tells that the command runs.
type started struct{}

// nodeCalls brings the calls that make device nodes, for the caller's side to do.
type nodeCalls struct{}

// console brings the terminal's other end.
type console struct{}

type windowSize struct{ Columns, Rows uint16 }

// outcome is the last message: how it went.
type outcome struct {
	Error       string                // why the command did not run
	Start       *container.StartError // the same, where it is the command's fault
	Code        int
	Signal      int
	Duration    time.Duration
	MaxRSS      int64
	OutOfMemory bool
	Stopped     bool   // the command was running when it was asked to stop
	Damage      string // why an image is not complete
	Leaks       []container.Leak
	Searched    bool
	Untouched   []string
}

const (
	maxMessage = 64 << 20 // bytes, far above any command line that the kernel takes
	maxFiles   = 253      // SCM_MAX_FD
)

// sendLimit is how long the other side may take to read a message.
const sendLimit = 30 * time.Second

// newWires returns the two ends of a connection, the second as a file to pass on.
func newWires() (*wire, *os.File, error) {
	ours, theirs, err := socketPair("wire")
	if err != nil {
		return nil, nil, err
	}
	w, err := newWire(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return w, theirs, nil
}

func socketPair(name string) (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name), nil
}

// newWire takes over f, a connected socket.
func newWire(f *os.File) (*wire, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, errors.New("not a unix socket")
	}
	return &wire{conn}, nil
}

func (w *wire) close() error { return w.conn.Close() }

// send sends m; the files stay the caller's to close.
func (w *wire) send(m message, files ...*os.File) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(body) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("message of %d bytes with %d files is too large", len(body), len(files))
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	// The other side reads at once, or does not work.
	if err := w.conn.SetWriteDeadline(time.Now().Add(sendLimit)); err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, _, err := w.conn.WriteMsgUnix(head, oob, nil); err != nil {
		return err
	}
	_, err = w.conn.Write(body)
	return err
}

// receive returns the next message with its files, io.EOF when there is none.
func (w *wire) receive() (message, []*os.File, error) {
	var m message
	head := make([]byte, 4)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, _, _, err := w.conn.ReadMsgUnix(head, oob)
	if err != nil {
		return m, nil, err
	}
	files, err := receivedFiles(oob[:oobn])
	if err != nil {
		return m, nil, err
	}
	if n == 0 {
		return m, nil, io.EOF
	}
	if err := w.receiveBody(&m, head, n); err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// receiveBody reads on after n bytes of the head.
func (w *wire) receiveBody(m *message, head []byte, n int) error {
	if _, err := io.ReadFull(w.conn, head[n:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return fmt.Errorf("message of %d bytes is too large", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return err
	}
	return json.Unmarshal(body, m)
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	parts, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range parts {
		fds, err := unix.ParseUnixRights(&parts[i])
		if err != nil {
			closeAll(files)
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
