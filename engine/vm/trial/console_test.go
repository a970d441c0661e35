package trial

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
)

// TestLinesOfAConsole looks for texts in what came so far: ^ and $ are at lines that are
// whole, and what a reboot ended is gone.
func TestLinesOfAConsole(t *testing.T) {
	c := &console{more: make(chan struct{})}
	is := func(want string, found bool) {
		t.Helper()
		if got, _ := c.find(regexp.MustCompile("(?m)"+want), false); got != found {
			t.Errorf("%s: found is %v in %q", want, got, c.said)
		}
	}
	c.add([]byte("ready"))
	is("^ready$", false) // to go
	is("ready.", false)
	c.add([]byte(" to go\nready\n"))
	is("^ready$", true)
	is(".", false)
	c.add([]byte("ab"))
	is("a", true)
	is("^b", false)
	is("b", true)
	c.add([]byte("\nb: "))
	is("^b: ", true)
	c.add([]byte("login:"))
	c.restart()
	is("login", false)
	c.add([]byte("anew"))
	is("^anew", true)
	c.add([]byte("end"))
	if found, _ := c.find(regexp.MustCompile("(?m)end$"), true); !found {
		t.Error("the end of the console is none of its last line")
	}
	c.add(bytes.Repeat([]byte("x"), maxUnread+1))
	if len(c.said) > maxUnread+1 {
		t.Errorf("%d bytes are kept", len(c.said))
	}
	is("^x", false)
}

// TestALineWithoutEnd is logged in parts, and not kept.
func TestALineWithoutEnd(t *testing.T) {
	var out bytes.Buffer
	l := &log{to: &out}
	for range 3 * maxLine / 1000 {
		l.add(bytes.Repeat([]byte("x"), 1000))
	}
	l.add([]byte("\nab"))
	l.add([]byte("c\nd"))
	l.say("%s", "done")
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(l.part) != 0 || cap(l.part) > 4*maxLine || len(lines) < 6 || strings.Join(lines[len(lines)-3:], "|") != "abc|d|b9: done" {
		t.Errorf("%d lines, %d bytes are kept", len(lines), cap(l.part))
	}
}

// TestAConsoleWithoutEnd is kept up to a bound, and then an error.
func TestAConsoleWithoutEnd(t *testing.T) {
	c := &console{more: make(chan struct{}), kept: maxKept - 1}
	c.keep(io.Discard, []byte("x"))
	if err := c.failure(); err != nil {
		t.Error(err)
	}
	c.keep(io.Discard, []byte("x"))
	if err := c.failure(); err == nil || err.Error() != "the machine says more than 256 MiB on its console" {
		t.Error(err)
	}
}
