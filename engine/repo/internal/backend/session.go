package backend

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"

	"b9.build/b9/engine/ssh"
)

// session is a connection with one or more channels, and why it was given up.
// Each channel has a window of its own, 2 MiB in OpenSSH, which is all that
// can be under way in it: over a distance several carry more.
type session struct {
	*ssh.Client
	server  string        // for messages
	silence time.Duration // after which a channel in which nothing moves is given up
	widened sync.Once

	mu       sync.Mutex // guards the rest
	channels []*channel
	users    int // exchanges and readers that are not cancelled
	why      error
}

// errClosed: nobody wants the connection any more.
var errClosed = errors.New("the connection was closed")

// channel is one file transfer.
type channel struct {
	*sftp.Client
	stream *stream
	busy   atomic.Int32 // exchanges under way
}

// stream counts the bytes that pass an SSH channel, both ways. Keep-alives
// pass beside it.
type stream struct {
	io.ReadWriteCloser
	moved atomic.Int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	s.moved.Add(int64(n))
	return n, err
}

func (s *stream) Write(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Write(p)
	s.moved.Add(int64(n))
	return n, err
}

// openChannel starts a file transfer in a channel of its own. Requests
// overlap: with 32 KiB each, as many are under way as an OpenSSH server's
// window takes.
func openChannel(client *ssh.Client) (*channel, error) {
	ch, err := client.Subsystem("sftp")
	if err != nil {
		return nil, noTransfer(err)
	}
	s := &stream{ReadWriteCloser: ch}
	c, err := sftp.NewClientPipe(s, s, sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true), sftp.MaxConcurrentRequestsPerFile(128))
	if err != nil {
		ch.Close()
		return nil, noTransfer(err)
	}
	return &channel{Client: c, stream: s}, nil
}

func noTransfer(err error) error {
	return fmt.Errorf("the server offers no file transfer: %w (its sshd_config needs a line such as \"Subsystem sftp internal-sftp\")", err)
}

// moreChannels are opened when there is much to move.
const moreChannels = 3

// enter counts a user. False means that the connection was given up.
func (s *session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.users++
	return true
}

// leave is the end of a use. The last user that is cancelled ends the
// connection, because the protocol has no way to cancel a request.
func (s *session) leave(cause error) {
	s.mu.Lock()
	s.users--
	last := cause != nil && s.users == 0 && s.why == nil
	if last {
		s.why = cause
	}
	s.mu.Unlock()
	if last {
		s.HangUp()
	}
}

// abort ends the connection for a reason, and does not wait for what goes on
// in it.
func (s *session) abort(why error) {
	s.giveUp(why)
	s.HangUp()
}

// background runs fn in a goroutine for which Close waits, unless the
// connection was given up.
func (s *session) background(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return false
	}
	s.Go(fn)
	return true
}

// acquire returns the channel with the least to do, for one exchange.
func (s *session) acquire() *channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := slices.MinFunc(s.channels, func(a, b *channel) int { return int(a.busy.Load() - b.busy.Load()) })
	ch.busy.Add(1)
	return ch
}

// widen opens more channels, once. A server that allows no more is no error.
func (s *session) widen() {
	s.widened.Do(func() {
		for range moreChannels {
			more, err := openChannel(s.Client)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.channels = append(s.channels, more)
			s.mu.Unlock()
		}
	})
}

// doubtAfter is how long a server may take to open a file before it is asked what the file is.
const doubtAfter = 2 * time.Second

// doubt finds out why a file is not opened: a server that opens a pipe waits for its other
// end, and answers nothing more in that channel. Then the connection is given up. To ask
// first would cost a round trip for each file. The caller calls enough when the file is
// open.
func (s *session) doubt(name string) (enough func()) {
	timer := time.AfterFunc(doubtAfter, func() {
		s.background(func() {
			ch, err := openChannel(s.Client)
			if err != nil {
				return
			}
			defer ch.Close()
			if info, err := ch.Stat(name); err == nil && !info.Mode().IsRegular() {
				s.abort(fmt.Errorf("%s: %w: it is no regular file", name, ErrDamaged))
			}
		})
	})
	return func() { timer.Stop() }
}

// giveUp notes the first reason to end the connection.
func (s *session) giveUp(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why == nil {
		s.why = why
	}
}

// broken notes an exchange that failed since the connection, or its channel, ended: who
// comes next makes a new one, even if the end has not been noticed otherwise.
func (s *session) broken(err error) error {
	err = Mark(err, ErrUnreachable)
	s.giveUp(err)
	return err
}

// ended returns why the connection ended; nil while it lasts.
func (s *session) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.why != nil {
		return s.why
	}
	return s.Err()
}
