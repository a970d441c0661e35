package repo

import (
	"errors"
	"slices"
	"sync"

	"github.com/pkg/sftp"
)

// sftpConn is a connection with one or more channels, and why it was given
// up. Each channel has a window of its own, 2 MiB in OpenSSH, which is all
// that can be under way in it: over a distance several carry more.
type sftpConn struct {
	*sshConn
	mu       sync.Mutex
	channels []*channel
	widened  bool
	users    int // exchanges and readers that are not cancelled
	why      error
}

// errClosed: nobody wants the connection any more.
var errClosed = errors.New("the connection was closed")

// channel is one file transfer.
type channel struct {
	*sftp.Client
	stream *stream
	busy   int // exchanges under way
}

// moreChannels are opened when there is much to move.
const moreChannels = 3

// enter counts a user. False means that the connection was given up.
func (c *sftpConn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return false
	}
	c.users++
	return true
}

// leave takes a user off. The last one that is cancelled ends the connection:
// the protocol has no way to take a request back.
func (c *sftpConn) leave(cause error) {
	c.mu.Lock()
	c.users--
	last := cause != nil && c.users == 0 && c.why == nil
	if last {
		c.why = cause
	}
	c.mu.Unlock()
	if last {
		c.hangUp()
	}
}

// cut ends the connection for a reason, and does not wait for what goes on in it.
func (c *sftpConn) cut(why error) {
	c.giveUp(why)
	c.hangUp()
}

// background runs fn, for which Close waits, unless the connection was given up.
func (c *sftpConn) background(fn func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return false
	}
	c.watches.Go(fn)
	return true
}

// take returns the channel ch, or the one with the least to do, until put is
// called.
func (c *sftpConn) take(ch *channel) *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch == nil {
		ch = slices.MinFunc(c.channels, func(a, b *channel) int { return a.busy - b.busy })
	}
	ch.busy++
	return ch
}

func (c *sftpConn) put(ch *channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch.busy--
}

// shared reports whether several exchanges use the channel.
func (c *sftpConn) shared(ch *channel) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return ch.busy > 1
}

// widen opens more channels. A server that allows no more is no error.
func (c *sftpConn) widen() {
	c.mu.Lock()
	first := !c.widened
	c.widened = true
	c.mu.Unlock()
	for range moreChannels {
		if !first || c.ended() != nil {
			return
		}
		more, err := c.link.transfer(nil)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.channels = append(c.channels, more)
		c.mu.Unlock()
	}
}

// giveUp notes the first reason to end the connection.
func (c *sftpConn) giveUp(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why == nil {
		c.why = why
	}
}

// ended returns why the connection ended; nil while it lasts.
func (c *sftpConn) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return c.why
	}
	return c.Err()
}

// clientOptions make requests overlap: with 32 KiB each, as many are under
// way as an OpenSSH server's window takes.
func clientOptions() []sftp.ClientOption {
	return []sftp.ClientOption{sftp.UseConcurrentWrites(true), sftp.UseConcurrentReads(true), sftp.MaxConcurrentRequestsPerFile(128)}
}
