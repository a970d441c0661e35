package repo

import (
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
	t.conn.Close()
	t.conn = nil
}

// drop ends the connection for a reason, if it still is the one in use.
func (t *sftpTree) drop(conn *sftpConn, why error) {
	conn.giveUp(why)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == conn {
		t.forget()
	}
}

// do runs one exchange with the server. The protocol has no way to take a
// request back, so cancelling, or a server that moves nothing in the channel
// for the time-out, ends the connection. That sshd itself still answers
// keep-alives does not count: it is another process that serves the files.
func (t *sftpTree) do(ctx context.Context, name string, fn func(*sftp.Client) error) error {
	conn, err := t.session(ctx, nil)
	if err != nil {
		return err
	}
	ch := conn.take()
	defer conn.put(ch)
	return t.watched(ctx, conn, ch, func() error { return explain(fn(ch.Client), conn, t.path(name)) })
}

// watched runs fn, which uses ch, and ends conn when it takes too long.
func (t *sftpTree) watched(ctx context.Context, conn *sftpConn, ch *channel, fn func() error) error {
	stop := context.AfterFunc(ctx, func() { t.drop(conn, context.Cause(ctx)) })
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() { t.endSilence(conn, ch, done) })
	err := fn()
	close(done)
	watch.Wait()
	if !stop() && err != nil {
		err = context.Cause(ctx)
	}
	return err
}

// endSilence ends the connection when nothing passes the channel for the
// time-out before done is closed.
func (t *sftpTree) endSilence(conn *sftpConn, ch *channel, done <-chan struct{}) {
	tick := time.NewTicker(t.timeout)
	defer tick.Stop()
	before := ch.stream.moved.Load()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		now := ch.stream.moved.Load()
		if now == before {
			t.drop(conn, fmt.Errorf("connection to %s given up: nothing came from the server for %v", t.loc, t.timeout))
			return
		}
		before = now
	}
}

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
	t    *sftpTree
	ctx  context.Context // of the open call: a reader does not outlive it
	conn *sftpConn
	ch   *channel
}

func (f sftpFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.t.watched(f.ctx, f.conn, f.ch, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return explain(err, f.conn, f.Name())
	})
	return n, err
}

// Close does not wait for the answer.
func (f sftpFile) Close() error {
	f.conn.put(f.ch)
	go f.File.Close()
	return nil
}

func (t *sftpTree) open(ctx context.Context, name string, off int64, length int) (reader, error) {
	e := &early{path: t.path(name), off: off, length: length}
	conn, err := t.session(ctx, e)
	if err != nil {
		return nil, err
	}
	if e.ok {
		return &earlyFile{e: e, again: func() (reader, error) { return t.openOn(ctx, conn, name) }}, nil
	}
	return t.openOn(ctx, conn, name)
}

// openOn opens a file on a connection.
func (t *sftpTree) openOn(ctx context.Context, conn *sftpConn, name string) (reader, error) {
	f := sftpFile{t: t, ctx: ctx, conn: conn, ch: conn.take()}
	err := t.watched(ctx, conn, f.ch, func() (err error) {
		f.File, err = f.ch.Open(t.path(name))
		return explain(err, conn, t.path(name))
	})
	if err != nil {
		conn.put(f.ch)
		return nil, err
	}
	return f, nil
}

func (t *sftpTree) rename(ctx context.Context, from, to string) error {
	return t.do(ctx, to, func(c *sftp.Client) error {
		return blame(c, path.Dir(t.path(to)), c.PosixRename(t.path(from), t.path(to)))
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

func (t *sftpTree) list(ctx context.Context, dir string) (infos []fs.FileInfo, err error) {
	conn, err := t.session(ctx, nil)
	if err != nil {
		return nil, err
	}
	ch := conn.take()
	defer conn.put(ch)
	err = t.watched(ctx, conn, ch, func() (err error) {
		done := make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() { t.endFlood(conn, ch, t.path(dir), done) })
		infos, err = ch.ReadDir(t.path(dir))
		close(done)
		watch.Wait()
		return explain(err, conn, t.path(dir))
	})
	return infos, err
}

// maxListing bounds the bytes of a directory's listing, some 400,000 names.
const maxListing = 64 << 20

// endFlood ends the connection when the listing of dir does not come to its
// end. What other exchanges on the channel move does not count.
func (t *sftpTree) endFlood(conn *sftpConn, ch *channel, dir string, done <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun := ch.stream.moved.Load()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		switch now := ch.stream.moved.Load(); {
		case conn.shared(ch):
			begun = now
		case now-begun > maxListing:
			t.drop(conn, fmt.Errorf("%s: %w: its listing is longer than %d bytes", dir, ErrDamaged, maxListing))
			return
		}
	}
}

func (t *sftpTree) stat(ctx context.Context, name string) (info fs.FileInfo, err error) {
	err = t.do(ctx, name, func(c *sftp.Client) (err error) {
		info, err = c.Stat(t.path(name))
		return err
	})
	return info, err
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
		t.conn.watches.Go(t.conn.widen)
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
