package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"b9.build/b9/cmd/b9/internal/display"
)

// escape begins a command to b9 among what is typed: Ctrl-A.
const escape = 0x01

// keysHelp lists the commands.
const keysHelp = `
Ctrl-A x  ends the machine
Ctrl-A s  takes the picture of --screenshot
Ctrl-A z  stops machine and b9, until the shell's fg
Ctrl-A Ctrl-A  is Ctrl-A for the guest
`

// attach joins the console of a machine to the streams of b9, until the machine is off
// or is to end.
func (r *running) attach(ctx context.Context) error {
	t := r.terminal()
	if t.raw() {
		r.session.Tell("the console follows; Ctrl-A x ends the machine, Ctrl-A h tells more")
	}
	defer t.restore()
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(r.session.Out, r.Console)
		if errors.Is(err, syscall.ECONNRESET) { // QEMU ended with something typed that nobody read
			err = nil
		}
		read <- err
	}()
	keys, done := make(chan byte), make(chan struct{})
	stop, typed := t.read(r.Console, keys, done)
	err := r.obey(ctx, t, keys)
	close(done)
	stop()
	<-typed
	if serr := r.screenshot(); err == nil {
		err = serr
	}
	r.end()
	if werr := <-read; err == nil {
		err = werr
	}
	if err == nil {
		err = r.Err()
	}
	return err
}

// obey follows commands until the machine is off, or is to end.
func (r *running) obey(ctx context.Context, t *terminal, keys <-chan byte) error {
	resized := make(chan os.Signal, 1)
	if t.tty != nil {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		resized <- syscall.SIGWINCH // as it is now
	}
	size := newest{run: func(ctx context.Context) { r.resize(ctx, t) }}
	defer size.end()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.Down():
			return nil
		case <-resized:
			size.ask(ctx)
		case <-size.done:
			size.ended(ctx)
		case key := <-keys:
			switch key {
			case 'x':
				return nil
			case 's':
				if err := r.screenshot(); err != nil {
					r.session.Console.Warn("%v", err)
				}
			case 'z':
				if err := r.suspend(ctx, t); err != nil {
					return err
				}
			case 'h':
				fmt.Fprint(r.session.Console, keysHelp)
			}
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// newest runs something one at a time, and once more where it was asked for meanwhile: what
// it has read may be out of date.
type newest struct {
	run func(context.Context)

	done   chan struct{} // closed once it has run; nil while it does not
	again  bool
	cancel context.CancelFunc
}

func (n *newest) ask(ctx context.Context) {
	if n.done != nil {
		n.again = true
		return
	}
	ctx, n.cancel = context.WithCancel(ctx)
	n.done = make(chan struct{})
	go func(done chan<- struct{}) {
		defer close(done)
		n.run(ctx)
	}(n.done)
}

// ended follows done.
func (n *newest) ended(ctx context.Context) {
	n.cancel()
	again := n.again
	if n.done, n.again = nil, false; again {
		n.ask(ctx)
	}
}

// end ends what runs.
func (n *newest) end() {
	if n.done != nil {
		n.cancel()
		<-n.done
	}
}

// resize tells the guest how large the terminal is, which no serial line does: through
// its agent, once it answers. A guest without one does not get to know.
func (r *running) resize(ctx context.Context, t *terminal) {
	cols, rows := display.TerminalSize(t.tty)()
	_, _ = r.Exec(ctx, "/bin/stty", "-F", "/dev/ttyS0", "rows", fmt.Sprint(rows), "cols", fmt.Sprint(cols))
}

// suspend holds machine and b9 until b9 is continued.
func (r *running) suspend(ctx context.Context, t *terminal) error {
	if err := r.Stop(ctx); err != nil {
		return err
	}
	t.restore()
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	if err := syscall.Kill(0, syscall.SIGSTOP); err != nil {
		return err
	}
	<-continued
	t.raw()
	return r.Continue(ctx)
}

// terminal is what is typed into.
type terminal struct {
	in    io.Reader
	tty   *os.File // nil for none
	state *term.State
}

func (r *running) terminal() *terminal {
	t := &terminal{in: r.session.In}
	if f, ok := t.in.(*os.File); ok && display.IsTTY(f) && display.IsTerminal(r.session.Out) {
		t.tty = f
	}
	return t
}

// raw passes every key on as it is typed. Line ends of what is printed stay as they are.
func (t *terminal) raw() bool {
	if t.tty == nil {
		return false
	}
	fd := int(t.tty.Fd())
	state, err := term.MakeRaw(fd)
	if err != nil {
		return false
	}
	t.state = state
	if now, err := unix.IoctlGetTermios(fd, unix.TCGETS); err == nil {
		now.Oflag |= unix.OPOST
		_ = unix.IoctlSetTermios(fd, unix.TCSETS, now) // lines of b9 begin further right then
	}
	return true
}

func (t *terminal) restore() {
	if t.state != nil {
		_ = term.Restore(int(t.tty.Fd()), t.state)
		t.state = nil
	}
}

// read passes what is typed on to the console, and commands to keys, until stop is
// called; typed is closed then. A guest that reads nothing holds up neither.
func (t *terminal) read(console net.Conn, keys chan<- byte, done <-chan struct{}) (stop func(), typed <-chan struct{}) {
	ended := make(chan struct{})
	f, isFile := t.in.(*os.File)
	wake, waker, err := os.Pipe()
	if err != nil || t.in == nil {
		close(ended)
		return func() {}, ended
	}
	p := &typist{console: console, keys: keys, done: done}
	go func() {
		defer close(ended)
		defer wake.Close() // not before: a poll ignores a descriptor that is closed
		buf := make([]byte, 4096)
		for {
			if isFile && !readable(f, wake) {
				return
			}
			n, err := t.in.Read(buf)
			if !p.typed(buf[:n]) || err != nil {
				return
			}
		}
	}()
	return func() { _, _ = waker.Close(), console.SetWriteDeadline(time.Unix(1, 0)) }, ended
}

// readable waits until f can be read; it is false once the other end of wake was closed.
func readable(f, wake *os.File) bool {
	for {
		fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil || fds[1].Revents != 0 {
			return false
		}
		return true
	}
}

// typist finds commands among what is typed.
type typist struct {
	console io.Writer
	keys    chan<- byte
	done    <-chan struct{}
	escaped bool
}

// typed passes data on; it is false once nobody reads it any more.
func (p *typist) typed(data []byte) bool {
	var out []byte
	for _, c := range data {
		switch {
		case !p.escaped && c == escape:
			p.escaped = true
			continue
		case p.escaped && strings.ContainsRune("xszh", rune(c)):
			p.escaped = false
			select {
			case p.keys <- c:
			case <-p.done:
				return false
			}
			continue
		case p.escaped && c != escape:
			out = append(out, escape)
		}
		p.escaped = false
		out = append(out, c)
	}
	if len(out) == 0 {
		return true
	}
	_, err := p.console.Write(out)
	return err == nil
}
