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
	t.session = &session{Client: client, server: t.server.Name, silence: t.timeout, channels: []*channel{first}}
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
func (t *SFTP) do(ctx context.Context, name string, fn func(c *sftp.Client, name string) error) error {
	_, err := ask(ctx, t, name, 0, func(c *sftp.Client, name string) (struct{}, error) { return struct{}{}, fn(c, name) })
	return err
}

// ask runs one exchange with the server about a file, whose whole name fn gets.
func ask[T any](ctx context.Context, t *SFTP, name string, most int64, fn func(c *sftp.Client, name string) (T, error)) (none T, err error) {
	s, err := t.enter(ctx)
	if err != nil {
		return none, err
	}
	return exchange(ctx, s, s.acquire(), t.path(name), most, fn)
}

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
		return s.broken(fmt.Errorf("%s: the connection ended", name))
	case errors.As(err, &network):
		return s.broken(fmt.Errorf("%s: the connection ended: %w", name, err))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", name, fs.ErrPermission)
	case errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxFailure:
		return fmt.Errorf("%s: the server says no more than \"failure\"", name)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// blame returns the reason why the server refused to write a file. SFTP has no
// code for a full or read-only disk, so blame asks the server about the disk.
func blame(c *sftp.Client, name string, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) || status.FxCode() != sftp.ErrSSHFxFailure {
		return err
	}
	const readOnly = 1 // of f_flag, in statvfs@openssh.com
	disk, serr := c.StatVFS(path.Dir(name))
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

// remoteFile is an open file. It is a user of the session until it is closed or
// the context of the Open call ends, which it does not outlive.
type remoteFile struct {
	*sftp.File
	ctx     context.Context
	session *session
	ch      *channel
	stop    func() bool // the watch over ctx
}

// ReadAt may go on writing to p after ctx ended.
func (f remoteFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.session.enter() {
		return 0, explain(fs.ErrClosed, f.session, f.Name())
	}
	f.ch.busy.Add(1)
	return exchange(f.ctx, f.session, f.ch, f.Name(), 0, func(*sftp.Client, string) (int, error) { return f.File.ReadAt(p, off) })
}

// leave ends the use of the session, unless ctx has.
func (f remoteFile) leave() {
	if f.stop() {
		f.session.leave(nil)
	}
}

// Close does not wait for the answer.
func (f remoteFile) Close() error {
	f.leave()
	f.session.background(func() { f.File.Close() })
	return nil
}

// Open implements Backend.
func (t *SFTP) Open(ctx context.Context, name string) (Reader, error) {
	s, err := t.enter(ctx)
	if err != nil {
		return nil, err
	}
	s.enter() // for the reader, beside opening it
	f := remoteFile{ctx: ctx, session: s, ch: s.acquire()}
	f.stop = context.AfterFunc(ctx, func() { s.leave(context.Cause(ctx)) })
	defer s.doubt(t.path(name))()
	if f.File, err = exchange(ctx, s, f.ch, t.path(name), 0, (*sftp.Client).Open); err != nil {
		f.leave()
		return nil, err
	}
	return f, nil
}

// Rename uses the plain request where the server has no posix-rename: no file ever
// had the new name.
func (t *SFTP) Rename(ctx context.Context, from, to string) error {
	return t.do(ctx, to, func(c *sftp.Client, to string) error {
		rename := c.PosixRename
		if _, ok := c.HasExtension("posix-rename@openssh.com"); !ok {
			rename = c.Rename
		}
		return blame(c, to, rename(t.path(from), to))
	})
}

// Create implements Backend.
func (t *SFTP) Create(ctx context.Context, name string, data []byte) error {
	return t.do(ctx, name, func(c *sftp.Client, name string) error {
		f, err := c.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
		if err != nil {
			if _, serr := c.Lstat(name); serr == nil {
				return fs.ErrExist
			}
			return blame(c, name, err)
		}
		if err = finishSFTP(c, f, data); err != nil {
			err = blame(c, name, err)
			c.Remove(name)
		}
		return err
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
	return t.do(ctx, name, func(c *sftp.Client, name string) error {
		f, err := c.OpenFile(name, os.O_WRONLY|os.O_APPEND)
		if err == nil {
			err = finishSFTP(c, f, data)
		}
		return blame(c, name, err)
	})
}

// SyncDir opens the directory as a file, which an OpenSSH server can flush.
// It is no error if a server can't.
func (t *SFTP) SyncDir(ctx context.Context, dir string) error {
	return t.do(ctx, dir, func(c *sftp.Client, dir string) error {
		if _, ok := c.HasExtension("fsync@openssh.com"); !ok {
			return nil
		}
		if f, err := c.Open(dir); err == nil {
			f.Sync()
			go f.Close()
		}
		return nil
	})
}

// maxListing bounds the bytes of a directory's listing, some 400,000 names.
const maxListing = 64 << 20

// List implements Backend.
func (t *SFTP) List(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	return ask(ctx, t, dir, maxListing, (*sftp.Client).ReadDir)
}

// Stat implements Backend.
func (t *SFTP) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return ask(ctx, t, name, 0, (*sftp.Client).Stat)
}

// Remove implements Backend.
func (t *SFTP) Remove(ctx context.Context, name string) error {
	return t.do(ctx, name, (*sftp.Client).Remove)
}

// Mkdir implements Backend.
func (t *SFTP) Mkdir(ctx context.Context, dir string) error {
	return t.do(ctx, dir, (*sftp.Client).MkdirAll)
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
