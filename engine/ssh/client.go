// Package ssh connects to SSH servers as ssh(1) does, for the current user,
// with the same configuration files, keys, agent and known_hosts files.
//
// It hides how a server is found and reached, the check of its host key and
// the login. There is no way to leave out the check of the host key. It runs
// no programs, neither here nor there: what is spoken on a channel is the
// caller's.
//
//   - [Dial] makes a [Client], the connection to a [Target]; [Options] say
//     where keys and files are. Messages name the file and line to change, or
//     the command to run.
//   - [Keys] keeps keys that were opened with a passphrase, and
//     [AskPassphrase] asks a person for one.
//   - Below it, package config reads ssh_config(5).
package ssh

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"b9.build/b9/engine/ssh/config"
)

// Target is a server as a location names it.
type Target = config.Target

// Client is a connection to a server. Its methods may be called by several
// goroutines.
type Client struct {
	link    *link
	done    chan struct{} // closed by Close
	closed  sync.Once
	watches sync.WaitGroup

	mu  sync.Mutex
	err error
}

// Subsystem starts a subsystem of the server in a channel of its own, RFC 4254
// section 6.5. The channel ends with the connection at the latest.
func (c *Client) Subsystem(name string) (io.ReadWriteCloser, error) {
	ch, requests, err := c.link.client.OpenChannel("session", nil)
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests) // these two end with the channel
	go io.Copy(io.Discard, ch.Stderr())
	ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{name}))
	if err == nil && !ok {
		err = errors.New("it refuses the subsystem")
	}
	if err != nil {
		ch.Close()
		return nil, err
	}
	return ch, nil
}

// Go runs fn in a goroutine for which [Client.Close] waits.
func (c *Client) Go(fn func()) { c.watches.Go(fn) }

// await notes when the other side ends the connection.
func (c *Client) await() {
	err := c.link.client.Wait()
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	c.lose(err)
}

// keepAlive sends requests to a server that may be gone.
func (c *Client) keepAlive() {
	host := c.link.host
	patience := host.Alive * time.Duration(host.AliveCount)
	for {
		select {
		case <-c.done:
			return
		case <-time.After(host.Alive):
		}
		bell := time.AfterFunc(patience, func() {
			c.lose(fmt.Errorf("no answer for %v", patience))
			c.link.client.Close()
		})
		_, _, err := c.link.client.SendRequest("keepalive@openssh.com", true, nil)
		bell.Stop()
		if err != nil {
			return
		}
	}
}

// Traffic counts the bytes that passed the network since the connecting
// began, encryption and handshakes included.
func (c *Client) Traffic() (sent, received int64) {
	first := c.link
	for first.via != nil {
		first = first.via
	}
	return first.wire.sent.Load(), first.wire.received.Load()
}

// lose notes the first reason for the end of the connection.
func (c *Client) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	if c.err == nil {
		c.err = fmt.Errorf("connection to %s lost: %w", c.link.host, err)
	}
}

// Err is why the connection was lost; nil while it lasts and after Close.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and what is under way on it, and waits for what
// [Client.Go] runs. It may be called again, and from another goroutine.
func (c *Client) Close() error {
	c.HangUp()
	c.watches.Wait()
	return nil
}

// HangUp is [Client.Close] without the waiting.
func (c *Client) HangUp() {
	c.closed.Do(func() {
		c.mu.Lock()
		close(c.done)
		c.mu.Unlock()
		c.link.close()
	})
}
