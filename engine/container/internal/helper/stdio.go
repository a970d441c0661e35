package helper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/container/secret"
)

// streams connects a command's standard streams to the caller's.
type streams struct {
	remote  []*os.File // the command's ends: input, output, error
	input   *pump      // nil when there is nothing to read
	outputs sync.WaitGroup
	errs    [2]error // of the outputs
}

// newStreams makes the pipes and begins to copy.
func newStreams(to container.IO) (*streams, error) {
	s := &streams{}
	err := s.connect(to)
	if err != nil {
		closeAll(s.remote)
		return nil, errors.Join(err, s.finish())
	}
	return s, nil
}

func (s *streams) connect(to container.IO) error {
	in, err := s.connectInput(to.Stdin)
	if err != nil {
		return err
	}
	s.remote = append(s.remote, in)
	if err := s.connectOutput(to.Stdout, "standard output", &s.errs[0]); err != nil {
		return err
	}
	if same(to.Stdout, to.Stderr) {
		s.remote = append(s.remote, s.remote[1])
		return nil
	}
	return s.connectOutput(to.Stderr, "standard error", &s.errs[1])
}

// same tells whether two writers are one, which must not be used by two
// goroutines. Writers that cannot be compared are not.
func same(a, b io.Writer) (equal bool) {
	defer func() { _ = recover() }()
	return a == b
}

// masked replaces the writers of to by such as mask what the set finds, and returns
// what writes the rest. One writer for both streams stays one.
func masked(to container.IO, set *secret.Set) (container.IO, func() error) {
	if set.Empty() || to.TTY != nil {
		return to, func() error { return nil }
	}
	var made []*secret.Masker
	wrap := func(w io.Writer) io.Writer {
		if w == nil {
			return nil
		}
		made = append(made, secret.NewMasker(set, w))
		return made[len(made)-1]
	}
	if same(to.Stdout, to.Stderr) {
		to.Stdout = wrap(to.Stdout)
		to.Stderr = to.Stdout
	} else {
		to.Stdout, to.Stderr = wrap(to.Stdout), wrap(to.Stderr)
	}
	return to, func() error {
		var errs []error
		for _, m := range made {
			errs = append(errs, m.Flush())
		}
		return errors.Join(errs...)
	}
}

func (s *streams) connectInput(from io.Reader) (*os.File, error) {
	if from == nil {
		return os.Open(os.DevNull)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if s.input, err = newPump(from, w); err != nil {
		r.Close()
		w.Close()
		return nil, err
	}
	return r, nil
}

// connectOutput copies until the last process that has the pipe is gone. When
// w takes no more the pipe breaks, as it would in a shell.
func (s *streams) connectOutput(w io.Writer, name string, failed *error) error {
	if w == nil {
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		s.remote = append(s.remote, null)
		return err
	}
	r, remote, err := os.Pipe()
	if err != nil {
		return err
	}
	s.remote = append(s.remote, remote)
	s.outputs.Go(func() {
		defer r.Close()
		if _, err := io.Copy(w, r); err != nil {
			*failed = fmt.Errorf("write %s of the command: %w", name, err)
		}
	})
	return nil
}

func (s *streams) files() []*os.File { return s.remote }

// handOver closes the command's ends here, after they were sent.
func (s *streams) handOver() {
	closeAll(s.remote)
	s.remote = nil
}

// finish returns when everything that the command wrote has been passed on.
func (s *streams) finish() error {
	s.handOver()
	s.outputs.Wait()
	if s.input != nil {
		s.input.stop()
	}
	return errors.Join(s.errs[0], s.errs[1])
}

// pump copies an input to a command that may end before the input does.
type pump struct {
	done chan struct{}
	wake *os.File // closed to interrupt waiting for input; nil when that cannot be
}

// newPump copies from r to w, which it closes at the end of the input.
func newPump(r io.Reader, w *os.File) (*pump, error) {
	p := &pump{done: make(chan struct{})}
	from := r
	if f, ok := r.(*os.File); ok {
		woken, wake, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.wake = wake
		from = &interruptible{f, woken}
	}
	go func() {
		defer close(p.done)
		defer w.Close()
		// The command may read none or some of its input.
		_, _ = io.Copy(w, from)
		if i, ok := from.(*interruptible); ok {
			i.woken.Close()
		}
	}()
	return p, nil
}

// stop ends the copying and waits for it where that is possible.
func (p *pump) stop() {
	if p.wake == nil {
		return
	}
	p.wake.Close()
	<-p.done
}

// interruptible reads a file until another is closed at its far end.
type interruptible struct {
	file  *os.File
	woken *os.File
}

func (i *interruptible) Read(b []byte) (int, error) {
	fds := []unix.PollFd{
		{Fd: int32(i.woken.Fd()), Events: unix.POLLIN},
		{Fd: int32(i.file.Fd()), Events: unix.POLLIN},
	}
	for {
		_, err := unix.Poll(fds, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("poll", err)
		}
		if fds[0].Revents != 0 {
			return 0, io.EOF
		}
		return i.file.Read(b)
	}
}
