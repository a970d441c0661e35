package backends

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"b9.build/b9/engine/container"
)

// newPTY is a terminal of our own: what a user sits at, and what b9 has.
func newPTY(t *testing.T) (user, tty *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return user, tty
}

// screen collects what appears on a terminal.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) watch(user *os.File) {
	buf := make([]byte, 4096)
	for {
		n, err := user.Read(buf)
		s.mu.Lock()
		s.text.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func resize(t *testing.T, f *os.File, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
}

func testTerminal(t *testing.T, w *world) {
	if !w.features.TTY {
		t.Skip("no terminals here")
	}
	user, tty := newPTY(t)
	resize(t, user, 123, 45)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	var s screen
	go s.watch(user)
	r := w.peek(`test -t 0 && test -t 1 && test -t 2 && tty && echo "size $(stty size)"
while [ "$(stty size)" = "45 123" ]; do sleep 0.01; done; echo resized
read line; echo "got <$line> size $(stty size)"; trap 'echo interrupted; exit 5' INT; echo waiting; while :; do sleep 0.1; done`)
	r.io = container.IO{TTY: tty}
	done := make(chan container.Result, 1)
	go func() {
		res, err := r.backend.Run(context.Background(), r.spec, r.io)
		if err != nil {
			t.Error(err)
		}
		done <- res
	}()
	eventually(t, "the terminal has its size", func() bool { return s.shows("size 45 123\r\n") })
	resize(t, user, 80, 24)
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command sees the new size", func() bool { return s.shows("resized\r\n") })
	typeIn(t, user, "hello\r")
	eventually(t, "a line is read", func() bool { return s.shows("got <hello> size 24 80\r\n") })
	eventually(t, "the command waits", func() bool { return s.shows("waiting") })
	typeIn(t, user, "\x03")
	select {
	case res := <-done:
		if res.Reason != container.Exited || res.Code != 5 || !s.shows("interrupted") {
			t.Errorf("got %+v, screen %q", res, s.String())
		}
	case <-time.After(time.Minute):
		t.Fatalf("no end; screen %q", s.String())
	}
	after, err := term.GetState(int(tty.Fd()))
	if err != nil || fmt.Sprint(*after) != fmt.Sprint(*before) {
		t.Errorf("the terminal was not restored: %v", err)
	}
}

func typeIn(t *testing.T, user *os.File, keys string) {
	t.Helper()
	if _, err := user.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}
