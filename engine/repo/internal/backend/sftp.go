package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path"
	"sync"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"b9.build/b9/engine/ssh"
)

// SFTP is a directory behind an SSH server. It connects when it is first
// used, and again after the connection was lost.
type SFTP struct {
	server  Server
	timeout time.Duration

	mu             sync.Mutex // held while connecting
	session        *session
	sent, received int64 // by connections that have ended
}

// Server says where a directory is and how it is reached.
type Server struct {
	ssh.Target
	Path    string // of the directory, there
	Name    string // of the repository, for messages
	Options ssh.Options
}

// NewSFTP returns a directory behind a server. The connection is given up when
// in a request's channel nothing moves for the time-out.
func NewSFTP(s Server, timeout time.Duration) *SFTP { return &SFTP{server: s, timeout: timeout} }

func (t *SFTP) path(name string) string { return path.Join(t.server.Path, name) }

// connected returns the connection, and makes one if there is none that works.
func (t *SFTP) connected(ctx context.Context) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != nil && t.session.ended() == nil {
		return t.session, nil
	}
	t.forget()
	var first *channel
	client, err := ssh.Dial(ctx, t.server.Target, t.server.Options, func(c *ssh.Client) (err error) {
		first, err = openChannel(c)
		return err
	})
	if err != nil {
		return nil, Mark(err, ErrUnreachable)
	}
	t.session = &session{Client: client, channels: []*channel{first}}
	return t.session, nil
}

// forget ends the connection and keeps its figures.
func (t *SFTP) forget() {
	if t.session == nil {
		return
	}
	s, r := t.session.Traffic()
	t.sent, t.received = t.sent+s, t.received+r
	t.session.giveUp(cmp.Or(t.session.ended(), errClosed))
	t.session.Close()
	t.session = nil
}

// enter returns the connection and counts its caller as a user until it leaves.
func (t *SFTP) enter(ctx context.Context) (*session, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s, err := t.connected(ctx)
		if err != nil || s.enter() {
			return s, err
		}
	}
}

// do runs one exchange with the server that has no result.
func (t *SFTP) do(ctx context.Context, name string, fn func(*sftp.Client) error) error {
	_, err := ask(ctx, t, t.rules(), name, func(c *sftp.Client) (struct{}, error) { return struct{}{}, fn(c) })
	return err
}

// ask runs one exchange with the server about a file.
func ask[T any](ctx context.Context, t *SFTP, r rules, name string, fn func(*sftp.Client) (T, error)) (T, error) {
	s, err := t.enter(ctx)
	if err != nil {
		var none T
		return none, err
	}
	ch := s.acquire(nil)
	return exchange(ctx, s, ch, r, func() (T, error) {
		v, err := fn(ch.Client)
		return v, explain(err, s, t.path(name))
	}, nil)
}

// rules returns the rules of an exchange with a short answer.
func (t *SFTP) rules() rules { return rules{server: t.server.Name, silence: t.timeout} }

// explain adds to an error what the protocol's own words leave out.
func explain(err error, s *session, name string) error {
	var status *sftp.StatusError
	var network *net.OpError
	switch {
	case err == nil, err == io.EOF:
		return err
	case s.ended() != nil:
		return Mark(s.ended(), ErrUnreachable)
	case errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, io.ErrClosedPipe), errors.Is(err, io.EOF): // EOF: in sending
		return Mark(fmt.Errorf("%s: the connection ended", name), ErrUnreachable)
	case errors.As(err, &network):
		return Mark(fmt.Errorf("%s: the connection ended: %w", name, err), ErrUnreachable)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", name, fs.ErrPermission)
	case errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxFailure:
		return fmt.Errorf("%s: the server says no more than \"failure\"", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// blame returns the reason why the server refused to write into dir. SFTP has no
// code for a full or read-only disk, so blame asks the server about the disk.
func blame(c *sftp.Client, dir string, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	const readOnly = 1 // of f_flag, in statvfs@openssh.com
	disk, serr := c.StatVFS(dir)
	switch {
	case serr != nil:
		return fmt.Errorf("%w: is the server's disk full or read-only?", err)
	case disk.Flag&readOnly != 0:
		return unix.EROFS
	case disk.Bavail == 0 || disk.Files > 0 && disk.Favail == 0:
		return unix.ENOSPC
	}
	return fmt.Errorf("%w (there are %d bytes left on its disk)", err, disk.Bavail*disk.Frsize)
}

// remoteFile is an open file.
type remoteFile struct {
	*sftp.File
	t       *SFTP
	ctx     context.Context // of the Open call: a reader does not outlive it
	session *session
	ch      *channel
	leave   func(cause error) // once
}

// ReadAt may go on writing to p after ctx ended.
func (f remoteFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.session.enter() {
		return 0, explain(fs.ErrClosed, f.session, f.Name())
	}
	n, err := exchange(f.ctx, f.session, f.session.acquire(f.ch), f.t.rules(), func() (int, error) {
		n, err := f.File.ReadAt(p, off)
		return n, explain(err, f.session, f.Name())
	}, nil)
	if cause := context.Cause(f.ctx); cause != nil {
		f.leave(cause)
	}
	return n, err
}

// Close does not wait for the answer.
func (f remoteFile) Close() error {
	f.leave(nil)
	f.session.background(func() { f.File.Close() })
	return nil
}

// Open implements Backend.
func (t *SFTP) Open(ctx context.Context, name string) (Reader, error) {
	s, err := t.enter(ctx)
	if err != nil {
		return nil, err
	}
	var once sync.Once
	leave := func(cause error) { once.Do(func() { s.leave(cause) }) }
	if !s.enter() { // for the reader, beside opening it
		leave = func(error) {}
	}
	ch := s.acquire(nil)
	file, err := exchange(ctx, s, ch, t.rules(), func() (*sftp.File, error) {
		f, err := ch.Open(t.path(name))
		return f, explain(err, s, t.path(name))
	}, func(f *sftp.File) { f.Close() })
	if err != nil {
		leave(context.Cause(ctx))
		return nil, err
	}
	return remoteFile{t: t, ctx: ctx, session: s, ch: ch, File: file, leave: leave}, nil
}

// Rename uses the plain request where the server has no posix-rename: no file ever
// had the new name.
func (t *SFTP) Rename(ctx context.Context, from, to string) error {
	return t.do(ctx, to, func(c *sftp.Client) error {
		rename := c.PosixRename
		if _, ok := c.HasExtension("posix-rename@openssh.com"); !ok {
			rename = c.Rename
		}
		return blame(c, path.Dir(t.path(to)), rename(t.path(from), t.path(to)))
	})
}

// Create implements Backend.
func (t *SFTP) Create(ctx context.Context, name string, data []byte) error {
	return t.do(ctx, name, func(c *sftp.Client) error {
		f, err := c.OpenFile(t.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			if _, serr := c.Lstat(t.path(name)); serr == nil {
				return fs.ErrExist
			}
			return blame(c, path.Dir(t.path(name)), err)
		}
		if err := finishSFTP(c, f, data); err != nil {
			err = blame(c, path.Dir(t.path(name)), err)
			c.Remove(t.path(name))
			return err
		}
		return nil
	})
}

// finishSFTP writes data, flushes it where the server can, and closes f.
func finishSFTP(c *sftp.Client, f *sftp.File, data []byte) error {
	_, err := f.Write(data)
	if _, ok := c.HasExtension("fsync@openssh.com"); !ok && err == nil {
		return f.Close()
	}
	if err == nil {
		err = f.Sync()
	}
	go f.Close() // Sync has returned its errors
	return err
}

// Append relies on the server: it opens the file with O_APPEND, and writes a packet
// in one write(2).
func (t *SFTP) Append(ctx context.Context, name string, data []byte) error {
	return t.do(ctx, name, func(c *sftp.Client) error {
		f, err := c.OpenFile(t.path(name), os.O_WRONLY|os.O_APPEND)
		if err == nil {
			err = finishSFTP(c, f, data)
		}
		return blame(c, path.Dir(t.path(name)), err)
	})
}

// SyncDir opens the directory as a file, which an OpenSSH server can flush.
// It is no error if a server can't.
func (t *SFTP) SyncDir(ctx context.Context, dir string) error {
	return t.do(ctx, dir, func(c *sftp.Client) error {
		if _, ok := c.HasExtension("fsync@openssh.com"); !ok {
			return nil
		}
		f, err := c.Open(t.path(dir))
		if err != nil {
			return nil
		}
		f.Sync()
		go f.Close()
		return nil
	})
}

// List implements Backend.
func (t *SFTP) List(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	r := t.rules()
	r.most, r.what = maxListing, t.path(dir)
	return ask(ctx, t, r, dir, func(c *sftp.Client) ([]fs.FileInfo, error) { return c.ReadDir(t.path(dir)) })
}

// maxListing bounds the bytes of a directory's listing, some 400,000 names.
const maxListing = 64 << 20

// Stat implements Backend.
func (t *SFTP) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return ask(ctx, t, t.rules(), name, func(c *sftp.Client) (fs.FileInfo, error) { return c.Stat(t.path(name)) })
}

// Remove implements Backend.
func (t *SFTP) Remove(ctx context.Context, name string) error {
	return t.do(ctx, name, func(c *sftp.Client) error { return c.Remove(t.path(name)) })
}

// Mkdir implements Backend.
func (t *SFTP) Mkdir(ctx context.Context, dir string) error {
	return t.do(ctx, dir, func(c *sftp.Client) error { return c.MkdirAll(t.path(dir)) })
}

// Widen returns at once.
func (t *SFTP) Widen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.session != nil {
		t.session.background(t.session.widen)
	}
}

// Traffic implements Backend: what passed the network, encryption included.
func (t *SFTP) Traffic() (sent, received int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sent, received = t.sent, t.received
	if t.session != nil {
		s, r := t.session.Traffic()
		sent, received = sent+s, received+r
	}
	return sent, received
}

// Close ends the connection.
func (t *SFTP) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	return nil
}
