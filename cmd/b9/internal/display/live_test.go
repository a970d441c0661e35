package display

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine"
)

// terminal interprets what the display writes, as far as the display should
// go: text, line ends, cursor up, erasing, colours. Anything else is an error.
type terminal struct {
	cols     int
	rows     []string // all lines ever, those scrolled away too
	row, col int
	err      error
}

func newTerminal(cols int) *terminal { return &terminal{cols: cols, rows: []string{""}} }

func (v *terminal) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		if rest, ok := strings.CutPrefix(s, "\x1b["); ok {
			i := strings.IndexFunc(rest, func(r rune) bool { return r >= 0x40 })
			v.control(rest[:i], rest[i])
			s = rest[i+1:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		v.char(r)
		s = s[n:]
	}
	return len(p), nil
}

func (v *terminal) char(r rune) {
	switch {
	case r == '\n':
		v.row, v.col = v.row+1, 0
		for len(v.rows) <= v.row {
			v.rows = append(v.rows, "")
		}
	case r == '\r':
		v.col = 0
	case r < ' ' || r == 0x7f:
		v.err = fmt.Errorf("control character %q", r)
	default:
		if v.col == v.cols {
			v.char('\n')
		}
		line := []rune(v.rows[v.row] + strings.Repeat(" ", v.cols))
		line[v.col] = r
		v.rows[v.row] = strings.TrimRight(string(line), " ")
		v.col++
	}
}

func (v *terminal) control(params string, final byte) {
	switch final {
	case 'A':
		n, err := strconv.Atoi(params)
		if err != nil || n > v.row {
			v.err = fmt.Errorf("cursor up %q from row %d", params, v.row)
			return
		}
		v.row -= n
	case 'J':
		v.rows = v.rows[:v.row+1]
		fallthrough
	case 'K':
		if line := []rune(v.rows[v.row]); len(line) > v.col {
			v.rows[v.row] = strings.TrimRight(string(line[:v.col]), " ")
		}
	case 'm':
	default:
		v.err = fmt.Errorf("control function %q", params+string(final))
	}
}

func (v *terminal) String() string { return strings.Join(v.rows, "\n") }

// live is a stage with a terminal that shows what was written so far.
type live struct {
	*stage
	term *terminal
}

func newLive(t *testing.T, o Options, cols, rows int) *live {
	o.Mode = "live"
	o.Width = func() (int, int) { return cols, rows }
	return &live{newStage(t, o), newTerminal(cols)}
}

// screen draws a frame and compares the whole screen.
func (l *live) screen(want string) {
	l.t.Helper()
	l.frame()
	l.shows(want)
}

func (l *live) shows(want string) {
	l.t.Helper()
	if _, err := l.term.Write(l.out.Bytes()); err != nil || l.term.err != nil {
		l.t.Fatal(err, l.term.err)
	}
	l.out.Reset()
	if got := l.term.String(); got != want {
		l.t.Errorf("the screen shows:\n%s\nwant:\n%s", got, want)
	}
}

func TestLive(t *testing.T) {
	s := newLive(t, Options{}, 60, 24)
	base, root, disk := node(t, "//web:base", "bootstrap"), node(t, "//web:root", "lxc_exec"), node(t, "//web:data", "convert")
	s.ready(40)
	s.cached(base)
	s.start(root)
	s.start(disk)
	s.bytes(disk, 1<<30, 4<<30)
	s.log(root, "\x1b[32mSetting up nginx-core (1.22.1-9+deb12u1) and some more of it\x1b[0m")
	s.wait(42 * time.Second)
	s.screen(`[  1/40] 2 running, 1 cached, 0:42
  //web:root  lxc_exec  0:42  Setting up nginx-core (1.22.1
  //web:data  convert  0:42  25% of 4GiB
`)
	s.finish(disk, 42*time.Second)
	s.Note("warning: something")
	s.log(root, "")
	s.log(root, "Processing triggers")
	s.screen(`//web:data  convert  done 42.0 s
warning: something
[  2/40] 1 running, 1 cached, 0:42
  //web:root  lxc_exec  0:42  Processing triggers
`)
	err := &engine.StepError{Node: root, Err: errors.New("exit status 3")}
	s.fail(root, 42*time.Second, err)
	s.screen(`//web:data  convert  done 42.0 s
warning: something
//web:root  lxc_exec  failed 42.0 s
[  3/40] 0 running, 1 cached, 1 failed, 0:42
`)
	s.Finish(Summary{Executed: 1, Cached: 1, Err: err, Took: 42 * time.Second})
	s.shows(`//web:data  convert  done 42.0 s
warning: something
//web:root  lxc_exec  failed 42.0 s
3 steps: 1 executed, 1 cached, 1 failed in 42.0 s
critical path 42.0 s: //web:data 42.0 s; slowest beside it:
//web:root 42.0 s

//web:root  lxc_exec  failed after 42.0 s; its log:
//web:root | Setting up nginx-core (1.22.1-9+deb12u1) and so
me more of it
//web:root |
//web:root | Processing triggers

web/B9BUILD.star:12:8: lxc_exec(): exit status 3
`)
}

// Nothing is written when nothing has changed, and one write is one frame.
func TestLiveWritesOnlyChanges(t *testing.T) {
	s := newLive(t, Options{}, 80, 24)
	n := node(t, "//a:a", "lxc_exec")
	s.start(n)
	writes := &countingWriter{}
	s.Display.screen.w = writes
	for _, change := range []func(){
		func() {}, func() { s.wait(time.Second) }, func() { s.log(n, "x"); s.log(n, "y") }, func() { s.Note("n"); s.Note("m") },
	} {
		change()
		before := writes.n
		s.frame()
		if writes.n != before+1 {
			t.Errorf("%d writes for a change, want 1", writes.n-before)
		}
		s.frame()
		s.wait(time.Millisecond)
		s.frame()
		if writes.n != before+1 {
			t.Errorf("%d writes where nothing changed", writes.n-before-1)
		}
	}
}

type countingWriter struct{ n int }

func (c *countingWriter) Write(p []byte) (int, error) { c.n++; return len(p), nil }

func TestLiveFitsTheWindow(t *testing.T) {
	s := newLive(t, Options{}, 30, 5)
	for i := range 9 {
		n := node(t, fmt.Sprintf("//some/package/of/the/workspace:step%d", i), "lxc_exec")
		s.start(n)
	}
	s.screen(`[ 0/0] 9 running, 0 cached, 0
  //some/package/of/the/works
  //some/package/of/the/works
  and 7 more
`)
	tiny := newLive(t, Options{}, 1, 1)
	tiny.start(node(t, "//a:a", "x"))
	tiny.frame()
}

// A window that was made narrower has folded the region: none of it stays.
func TestLiveNarrowerWindow(t *testing.T) {
	cols := 60
	s := newStage(t, Options{Mode: "live", Width: func() (int, int) { return cols, 24 }})
	n := node(t, "//a:a", "lxc_exec")
	s.start(n)
	s.log(n, strings.Repeat("x", 60))
	s.frame()
	cols = 20
	s.out.Reset()
	s.wait(time.Second)
	s.frame()
	// 27 and 59 columns fold to 2 and 3 rows of 20.
	if !strings.HasPrefix(s.out.String(), "\x1b[5A\r") {
		t.Errorf("the frame begins %.10q", s.out.String())
	}
}

// While a person is asked something the region is away, and nothing is drawn.
func TestLivePause(t *testing.T) {
	s := newLive(t, Options{}, 60, 24)
	n := node(t, "//a:a", "lxc_exec")
	s.start(n)
	s.frame()
	resume := s.Display.Pause()
	if !strings.HasSuffix(s.out.String(), "A\r\x1b[J") {
		t.Errorf("the region stays: %q", s.out.String())
	}
	s.out.Reset()
	s.Display.Note("meanwhile")
	s.wait(time.Second)
	s.frame()
	if s.out.String() != "" {
		t.Errorf("drawn in a pause: %q", s.out.String())
	}
	resume()
	s.frame()
	if got := s.out.String(); !strings.HasPrefix(got, "meanwhile\n") || !strings.Contains(got, "//a:a") {
		t.Errorf("after the pause: %q", got)
	}
}

func TestColor(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want bool
	}{{[]string{"TERM=xterm"}, true}, {[]string{"TERM=xterm", "NO_COLOR=1"}, false}, {[]string{"TERM=xterm", "NO_COLOR="}, true}} {
		s := newStage(t, Options{Mode: "live", Getenv: environ(c.env...)})
		s.build()
		s.frame()
		if got := strings.Contains(s.out.String(), "\x1b[32mdone\x1b[0m"); got != c.want {
			t.Errorf("%v: colour %v:\n%q", c.env, got, s.out.String())
		}
	}
}

// A flood of output does not wait in memory for the next frame.
func TestLiveFlood(t *testing.T) {
	s := newLive(t, Options{Verbosity: "verbose"}, 80, 24)
	n := node(t, "//a:a", "lxc_exec")
	s.start(n)
	s.frame()
	for range 10000 {
		s.log(n, strings.Repeat("flood ", 10))
		if len(s.Display.screen.above) > 2*tooMuch {
			t.Fatal("lines pile up")
		}
	}
}

// openPTY returns the two ends of a new terminal of 60 by 10.
func openPTY(t *testing.T) (control, tty *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("/dev/ptmx: %v", err)
	}
	t.Cleanup(func() { control.Close() })
	fd := int(control.Fd())
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 60})
	}
	if err != nil {
		t.Fatal(err)
	}
	// By name it could be a terminal of another mount of devpts.
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatalf("TIOCGPTPEER: %v", errno)
	}
	tty = os.NewFile(peer, "pty")
	return control, tty
}

// On a real terminal the live display is chosen, draws by itself, keeps to the
// window's width, and leaves only lines behind.
func TestPTY(t *testing.T) {
	control, tty := openPTY(t)
	screen := newTerminal(60)
	var mu sync.Mutex
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := control.Read(buf)
			mu.Lock()
			_, _ = screen.Write(buf[:n])
			mu.Unlock()
			if err != nil { // EIO once the other end is closed
				return
			}
		}
	})
	shown := func() string {
		mu.Lock()
		defer mu.Unlock()
		return screen.String()
	}

	d := New(tty, Options{Getenv: environ("TERM=xterm")})
	n := node(t, "//web:root", "lxc_exec")
	d.Event(engine.Event{Type: engine.GraphReady, Total: 2})
	d.Event(engine.Event{Type: engine.StepStarted, Node: n})
	d.Event(engine.Event{Type: engine.StepLog, Node: n, Line: "\x1b[2J\x1b]0;owned\a" + strings.Repeat("wide ", 30)})
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(shown(), "//web:root  lxc_exec  0:0") {
		if time.Now().After(deadline) {
			t.Fatalf("the region never came:\n%s", shown())
		}
		time.Sleep(10 * time.Millisecond)
	}
	if lines := strings.Split(shown(), "\n"); len(lines) != 3 || len(lines[1]) != 59 {
		t.Errorf("the region is:\n%s", shown())
	}
	d.Event(engine.Event{Type: engine.StepDone, Node: n, Duration: time.Second})
	d.Finish(Summary{Executed: 1, Cached: 1, Took: time.Second})
	if _, err := io.WriteString(tty, "$ "); err != nil {
		t.Fatal(err)
	}
	if err := tty.Close(); err != nil {
		t.Fatal(err)
	}
	reader.Wait()
	if want := "//web:root  lxc_exec  done 1.0 s\n2 steps: 1 executed, 1 cached in 1.0 s\n$"; screen.String() != want || screen.err != nil {
		t.Errorf("left behind (%v):\n%s\nwant:\n%s", screen.err, screen, want)
	}
}

// Events, frames and the end may come at the same time.
func TestConcurrency(t *testing.T) {
	ticks := make(chan time.Time)
	d := New(io.Discard, Options{Mode: "live", Verbosity: "debug", Ticks: ticks, Getenv: environ("TERM=xterm")})
	var work sync.WaitGroup
	for i := range 4 {
		n := node(t, fmt.Sprintf("//a:n%d", i), "lxc_exec")
		work.Go(func() {
			d.Event(engine.Event{Type: engine.StepStarted, Node: n})
			for range 100 {
				d.Event(engine.Event{Type: engine.StepLog, Node: n, Line: "x"})
				d.Note("n")
			}
			d.Event(engine.Event{Type: engine.StepDone, Node: n})
		})
	}
	for range 20 {
		ticks <- time.Time{}
	}
	work.Go(d.Close)
	work.Go(func() { d.Finish(Summary{}) })
	work.Wait()
}
