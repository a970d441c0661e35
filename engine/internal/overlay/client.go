package overlay

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Server is the process that serves.
type Server struct {
	control *net.UnixConn
	process *exec.Cmd
	ended   chan struct{} // closed when the process is gone
	close   func() error
	limit   time.Duration // requestLimit, but in tests

	mu       sync.Mutex
	files    map[*File]bool // whose connection may have to be ended
	watching sync.WaitGroup // a goroutine for each
}

// Start starts the server.
func Start() (*Server, error) {
	if !prepared.Load() {
		return nil, fmt.Errorf("%w: the server is this program run again, which does not call backends.Main() first in main", ErrUnavailable)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	s := &Server{control: ours, process: exec.Command("/proc/self/exe", arg), ended: make(chan struct{}), limit: requestLimit, files: map[*File]bool{}}
	s.process.ExtraFiles = []*os.File{theirs}
	s.process.Dir, s.process.Env = "/", []string{}
	// Ctrl-C is for b9, which closes what is served in order.
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startFlusher(s.process); err != nil {
		return nil, errors.Join(fmt.Errorf("start the server of images: %w", err), ours.Close())
	}
	go func() {
		defer close(s.ended)
		_ = s.process.Wait() // how it ended does not matter any more
	}()
	s.close = sync.OnceValue(s.end)
	return s, nil
}

// startFlusher starts a process that the kernel knows to be needed for writing data
// back, from a thread that is one for so long: it is passed on to children, and through
// execve(2). Root of a user namespace may not ask for it and goes without.
func startFlusher(c *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0) == nil {
		defer unix.Prctl(unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0)
	}
	return c.Start()
}

// Close ends the server, and with it all that it serves: whoever still uses a file gets
// errors.
func (s *Server) Close() error { return s.close() }

// end closes the server's socket, which ends it. One that waits in the kernel is given up: it
// goes when what it waits for is there, and nobody waits for it.
func (s *Server) end() error {
	err := s.control.Close()
	select {
	case <-s.ended:
	case <-time.After(min(s.limit, endLimit)):
		err = errors.Join(err, s.kill())
	}
	for _, f := range s.served() {
		err = errors.Join(err, f.release())
	}
	s.watching.Wait()
	return err
}

// kill ends a server that hangs, and all that waits for it.
func (s *Server) kill() error {
	_ = s.process.Process.Kill()
	var errs []error
	for _, f := range s.served() {
		errs = append(errs, abort(f.mount))
	}
	return errors.Join(errs...)
}

// served lists the files whose connections are not known to have ended.
func (s *Server) served() []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.files))
}

// Pid is the number of the server's process.
func (s *Server) Pid() int { return s.process.Process.Pid }

// File is an image that is served.
type File struct {
	server  *Server
	mount   *os.File // for ending its connection
	file    *os.File // the file, opened for its path alone
	close   func() error
	closing atomic.Bool
	release func() error
	over    chan struct{} // closed by release

	talking sync.Mutex // held from a message to its answer
	wire    *net.UnixConn
}

// Serve shows an image as a file. The files of the image stay the caller's, who may
// close them.
func (s *Server) Serve(i Image) (*File, error) {
	if len(i.Files) == 0 || len(i.Files) > maxFiles-3 {
		return nil, fmt.Errorf("an image of %d files can't be served", len(i.Files))
	}
	mount, device, err := newMount()
	if err != nil {
		return nil, err
	}
	wire, err := s.tell(i, device)
	if err = errors.Join(err, device.Close()); err != nil {
		return nil, errors.Join(err, mount.Close())
	}
	f := &File{server: s, mount: mount, wire: wire, over: make(chan struct{})}
	f.release, f.close = sync.OnceValue(f.letGo), sync.OnceValue(f.giveUp)
	s.mu.Lock()
	s.files[f] = true
	s.mu.Unlock()
	if _, err := f.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("serve an image: %w", err), f.release())
	}
	fd, err := unix.Openat(int(mount.Fd()), name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "open", Path: "the served image", Err: err}, f.release())
	}
	f.file = os.NewFile(uintptr(fd), "served image")
	s.watching.Go(f.watch)
	return f, nil
}

// tell sends the server what to serve, and returns the socket for talking of that.
func (s *Server) tell(i Image, device *os.File) (*net.UnixConn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	files := slices.Concat([]*os.File{device, theirs}, i.Files, []*os.File{i.Difference})
	if err := send(s.control, message{Of: i.Of, Continue: i.Continue}, files...); err != nil {
		return nil, errors.Join(fmt.Errorf("the server of images is gone: %w", err), ours.Close())
	}
	return ours, nil
}

// ask sends the server a message, and returns its answer.
func (f *File) ask(m message) (message, error) {
	f.talking.Lock()
	defer f.talking.Unlock()
	if err := send(f.wire, m); err != nil {
		return m, fmt.Errorf("the server of images is gone: %w", err)
	}
	return f.answer()
}

// answer waits for the server's answer.
func (f *File) answer() (message, error) {
	if err := f.wire.SetReadDeadline(time.Now().Add(answerLimit)); err != nil {
		return message{}, err
	}
	m, _, err := receive(f.wire)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errors.Join(err, f.server.kill())
	}
	if err != nil {
		return m, fmt.Errorf("the server of images does not answer: %w", err)
	}
	if m.Error != "" {
		return m, errors.New(m.Error)
	}
	return m, nil
}

// watch ends the server if it hangs: it has requests for the file, and for too long none of
// them ends. It ends when the file is released.
func (f *File) watch() {
	limit := f.server.limit
	tick := time.NewTicker(limit / 8)
	defer tick.Stop()
	var last message
	for moved := time.Now(); ; {
		select {
		case <-f.over:
			return
		case <-tick.C:
		}
		m, err := f.ask(message{Progress: true})
		idle := m.Begun == m.Ended
		switch {
		case err != nil: // it is gone, or was killed
			_ = abort(f.mount)
			return
		case idle && f.closing.Load():
			_ = f.release()
		case idle || m.Ended != last.Ended:
			last, moved = m, time.Now()
		case time.Since(moved) > limit:
			_ = f.server.kill() // Finish, and whoever uses the file, tells that it is gone
			return
		}
	}
}

// Path is where the file is found while it is served, by this process and by all that
// may look at what it has open. Nothing in it is a name of a directory.
func (f *File) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.file.Fd()) }

// Finish makes what was written so far a whole difference, until something is
// written again.
func (f *File) Finish() error {
	_, err := f.ask(message{})
	return err
}

// Close gives the file up. Who has it open, keeps it until the server ends.
func (f *File) Close() error { return f.close() }

// giveUp is Close. While there are requests, their connection can still be ended.
func (f *File) giveUp() error {
	err := f.file.Close()
	f.closing.Store(true)
	m, aerr := f.ask(message{Progress: true})
	if aerr != nil {
		_ = abort(f.mount)
	}
	if aerr != nil || m.Begun == m.Ended {
		err = errors.Join(err, f.release())
	}
	return err
}

// letGo is release: it closes what belongs to the file, once.
func (f *File) letGo() error {
	f.server.mu.Lock()
	delete(f.server.files, f)
	f.server.mu.Unlock()
	close(f.over)
	return errors.Join(f.mount.Close(), f.wire.Close())
}

// newMount makes a mount that lies in no directory, and the descriptor at which it is
// served.
func newMount() (mount, device *os.File, err error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: /dev/fuse: %w", ErrUnavailable, err)
	}
	device = os.NewFile(uintptr(fd), "/dev/fuse")
	if mount, err = mountFUSE(fd); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: mount through FUSE: %w", ErrUnavailable, err), device.Close())
	}
	return mount, device, nil
}

func mountFUSE(device int) (*os.File, error) {
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{
		{"source", "b9"}, {"subtype", "b9"}, {"fd", strconv.Itoa(device)}, {"rootmode", "40000"},
		{"user_id", strconv.Itoa(os.Geteuid())}, {"group_id", strconv.Itoa(os.Getegid())}, {"max_read", strconv.Itoa(largest)},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, os.NewSyscallError("fsconfig "+o[0], err)
		}
	}
	for _, flag := range []string{"default_permissions", "allow_other"} {
		if err := unix.FsconfigSetFlag(fs, flag); err != nil {
			return nil, os.NewSyscallError("fsconfig "+flag, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	attrs := unix.MOUNT_ATTR_NOATIME | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), "mount"), nil
}
