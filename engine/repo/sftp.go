package repo

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
)

// sftpTree is a repository behind an SSH server. It connects when it is
// first used, and again after the connection was lost.
type sftpTree struct {
	loc     Location
	ssh     SSHOptions
	timeout time.Duration

	mu             sync.Mutex // held while connecting
	conn           *sftpConn
	sent, received int64 // by connections that have ended
}

func (t *sftpTree) path(name string) string { return path.Join(t.loc.Path, name) }

// session returns the connection, and makes one if there is none that works.
// In that case e, if it is not nil, is read on the way.
func (t *sftpTree) session(ctx context.Context, e *early) (*sftpConn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil && t.conn.ended() == nil {
		return t.conn, nil
	}
	t.forget()
	conn, err := dialSSH(ctx, sshTarget{User: t.loc.User, Host: t.loc.Host, Port: t.loc.Port}, t.ssh, e)
	if err != nil {
		return nil, mark(err, ErrUnreachable)
	}
	t.conn = &sftpConn{sshConn: conn, channels: []*channel{conn.first}}
	return t.conn, nil
}

// forget ends the connection and keeps its figures.
func (t *sftpTree) forget() {
	if t.conn == nil {
		return
	}
	s, r := t.conn.Traffic()
	t.sent, t.received = t.sent+s, t.received+r
	t.conn.giveUp(cmp.Or(t.conn.ended(), errClosed))
	t.conn.Close()
	t.conn = nil
}

// enter returns the connection, on which its caller counts until it leaves.
func (t *sftpTree) enter(ctx context.Context, e *early) (*sftpConn, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		conn, err := t.session(ctx, e)
		if err != nil || conn.enter() {
			return conn, err
		}
		if e != nil {
			*e = early{path: e.path, off: e.off, length: e.length}
		}
	}
}

// do runs one exchange with the server that has no result.
func (t *sftpTree) do(ctx context.Context, name string, fn func(*sftp.Client) error) error {
	_, err := ask(ctx, t, name, func(c *sftp.Client) (struct{}, error) { return struct{}{}, fn(c) })
	return err
}

// ask runs one exchange with the server about a file.
func ask[T any](ctx context.Context, t *sftpTree, name string, fn func(*sftp.Client) (T, error)) (T, error) {
	conn, err := t.enter(ctx, nil)
	if err != nil {
		var none T
		return none, err
	}
	ch := conn.take(nil)
	return exchange(ctx, conn, ch, t.rules(), func() (T, error) {
		v, err := fn(ch.Client)
		return v, explain(err, conn, t.path(name))
	}, nil)
}

// rules are those of an exchange whose answer is not long.
func (t *sftpTree) rules() rules { return rules{loc: t.loc, silence: t.timeout} }

// explain adds to an error what the protocol's own words leave out.
func explain(err error, conn *sftpConn, place string) error {
	var status *sftp.StatusError
	var network *net.OpError
	switch {
	case err == nil, err == io.EOF:
		return err
	case conn.ended() != nil:
		return mark(conn.ended(), ErrUnreachable)
	case errors.Is(err, sftp.ErrSSHFxConnectionLost), errors.Is(err, io.ErrClosedPipe), errors.Is(err, io.EOF): // EOF: in sending
		return mark(fmt.Errorf("%s: the connection ended", place), ErrUnreachable)
	case errors.As(err, &network):
		return mark(fmt.Errorf("%s: the connection ended: %w", place, err), ErrUnreachable)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w", place, fs.ErrPermission)
	case errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxFailure:
		return fmt.Errorf("%s: the server says no more than \"failure\"", place)
	}
	return fmt.Errorf("%s: %w", place, err)
}

// blame finds out why the server refused to write into dir, for SFTP has no
// code for a full or read-only disk, and says so instead of err.
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

// sftpFile is an open file.
type sftpFile struct {
	*sftp.File
	t     *sftpTree
	ctx   context.Context // of the open call: a reader does not outlive it
	conn  *sftpConn
	ch    *channel
	leave func(cause error) // once
}

// ReadAt may go on writing to p after ctx ended.
func (f sftpFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.conn.enter() {
		return 0, explain(fs.ErrClosed, f.conn, f.Name())
	}
	n, err := exchange(f.ctx, f.conn, f.conn.take(f.ch), f.t.rules(), func() (int, error) {
		n, err := f.File.ReadAt(p, off)
		return n, explain(err, f.conn, f.Name())
	}, nil)
	if cause := context.Cause(f.ctx); cause != nil {
		f.leave(cause)
	}
	return n, err
}

// Close does not wait for the answer.
func (f sftpFile) Close() error {
	f.leave(nil)
	f.conn.background(func() { f.File.Close() })
	return nil
}

func (t *sftpTree) open(ctx context.Context, name string, off int64, length int) (reader, error) {
	e := &early{path: t.path(name), off: off, length: length}
	conn, err := t.enter(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.ok {
		conn.leave(nil)
		return &earlyFile{e: e, again: func() (reader, error) { return t.openAgain(ctx, name) }}, nil
	}
	return t.openOn(ctx, conn, name)
}

// openAgain opens what was read in part while connecting.
func (t *sftpTree) openAgain(ctx context.Context, name string) (reader, error) {
	conn, err := t.enter(ctx, nil)
	if err != nil {
		return nil, err
	}
	return t.openOn(ctx, conn, name)
}

// openOn opens a file on a connection, which its caller has entered.
func (t *sftpTree) openOn(ctx context.Context, conn *sftpConn, name string) (reader, error) {
	var once sync.Once
	leave := func(cause error) { once.Do(func() { conn.leave(cause) }) }
	if !conn.enter() { // for the reader, beside opening it
		leave = func(error) {}
	}
	ch := conn.take(nil)
	file, err := exchange(ctx, conn, ch, t.rules(), func() (*sftp.File, error) {
		f, err := ch.Open(t.path(name))
		return f, explain(err, conn, t.path(name))
	}, func(f *sftp.File) { f.Close() })
	if err != nil {
		leave(context.Cause(ctx))
		return nil, err
	}
	return sftpFile{t: t, ctx: ctx, conn: conn, ch: ch, File: file, leave: leave}, nil
}

// rename does without posix-rename where the server has none: what it renames
// gets a name that nothing ever had.
func (t *sftpTree) rename(ctx context.Context, from, to string) error {
	return t.do(ctx, to, func(c *sftp.Client) error {
		rename := c.PosixRename
		if _, ok := c.HasExtension("posix-rename@openssh.com"); !ok {
			rename = c.Rename
		}
		return blame(c, path.Dir(t.path(to)), rename(t.path(from), t.path(to)))
	})
}

func (t *sftpTree) create(ctx context.Context, name string, data []byte) error {
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
	go f.Close() // what it could tell, Sync has told
	return err
}

// append relies on the server: it opens the file with O_APPEND, and what is
// less than a packet is one write there.
func (t *sftpTree) append(ctx context.Context, name string, data []byte) error {
	return t.do(ctx, name, func(c *sftp.Client) error {
		f, err := c.OpenFile(t.path(name), os.O_WRONLY|os.O_APPEND)
		if err == nil {
			err = finishSFTP(c, f, data)
		}
		return blame(c, path.Dir(t.path(name)), err)
	})
}

// flush opens the directory as a file, which an OpenSSH server lets one
// flush. It is no error if a server does not.
func (t *sftpTree) flush(ctx context.Context, dir string) error {
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

func (t *sftpTree) list(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	conn, err := t.enter(ctx, nil)
	if err != nil {
		return nil, err
	}
	ch, r := conn.take(nil), t.rules()
	r.most, r.what = maxListing, t.path(dir)
	return exchange(ctx, conn, ch, r, func() ([]fs.FileInfo, error) {
		infos, err := ch.ReadDir(t.path(dir))
		return infos, explain(err, conn, t.path(dir))
	}, nil)
}

// maxListing bounds the bytes of a directory's listing, some 400,000 names.
const maxListing = 64 << 20

func (t *sftpTree) stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return ask(ctx, t, name, func(c *sftp.Client) (fs.FileInfo, error) { return c.Stat(t.path(name)) })
}

func (t *sftpTree) remove(ctx context.Context, name string) error {
	return t.do(ctx, name, func(c *sftp.Client) error { return c.Remove(t.path(name)) })
}

func (t *sftpTree) mkdir(ctx context.Context, dir string) error {
	return t.do(ctx, dir, func(c *sftp.Client) error { return c.MkdirAll(t.path(dir)) })
}

// widen returns at once.
func (t *sftpTree) widen() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		t.conn.background(t.conn.widen)
	}
}

func (t *sftpTree) traffic() (sent, received int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sent, received = t.sent, t.received
	if t.conn != nil {
		s, r := t.conn.Traffic()
		sent, received = sent+s, received+r
	}
	return sent, received
}

func (t *sftpTree) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forget()
	return nil
}
