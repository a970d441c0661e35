package repo

import (
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
	why      error
}

// channel is one file transfer.
type channel struct {
	*sftp.Client
	stream *stream
	busy   int // exchanges under way
}

// moreChannels are opened when there is much to move.
const moreChannels = 3

// take returns the channel with the least to do, until put is called.
func (c *sftpConn) take() *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	best := c.channels[0]
	for _, ch := range c.channels {
		if ch.busy < best.busy {
			best = ch
		}
	}
	best.busy++
	return best
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
