package trial

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"syscall"
)

// maxUnread is how much of what a console says is kept until a check looks at it, in bytes.
const maxUnread = 4 << 20

// log writes whole lines, of the console and of checks, one after the other.
type log struct {
	mu   sync.Mutex
	to   io.Writer
	part []byte // of a line that the console has not ended yet
}

// say writes a line of b9's own.
func (l *log) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end()
	fmt.Fprintf(l.to, "b9: "+format+"\n", args...)
}

// end writes what there is of a line.
func (l *log) end() {
	if len(l.part) > 0 {
		_, _ = l.to.Write(append(l.part, '\n')) // a log that can't be written is told of where it is kept
		l.part = l.part[:0]
	}
}

// maxLine is from which length on a line of the console is more than one in the log, in
// bytes.
const maxLine = 64 << 10

// add writes the lines of a text of the console that are whole.
func (l *log) add(text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := bytes.LastIndexByte(text, '\n') + 1
	if n > 0 {
		_, _ = l.to.Write(append(l.part, text[:n]...))
		l.part = l.part[:0]
	}
	if l.part = append(l.part, text[n:]...); len(l.part) > maxLine {
		l.end()
	}
}

// console is what a machine says on its first serial line, as text: without what moves a
// terminal's cursor and colours its letters.
type console struct {
	ended chan struct{}

	mu   sync.Mutex
	said []byte        // since the last match; behind cut, where that is in a line
	more chan struct{} // closed, and replaced, when more comes
	kept int64         // bytes
	err  error         // of keeping it
}

// cut stands where a line goes on that is not there: [text] leaves out such bytes.
const cut = 0

// follow reads until the machine ends.
func follow(from io.Reader, l *log, kept io.Writer) *console {
	c := &console{ended: make(chan struct{}), more: make(chan struct{})}
	go func() {
		defer close(c.ended)
		var plain text
		buf := make([]byte, 4096)
		for {
			n, err := from.Read(buf)
			c.keep(kept, buf[:n])
			got := plain.of(buf[:n])
			l.add(got)
			c.add(got)
			if err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.end()
				return
			}
		}
	}()
	return c
}

// maxKept bounds what a machine may say on its console, in bytes.
const maxKept = 256 << 20

func (c *console) keep(kept io.Writer, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	if c.kept += int64(len(data)); c.kept > maxKept {
		c.err = fmt.Errorf("the machine says more than %d MiB on its console", maxKept>>20)
		return
	}
	if _, err := kept.Write(data); err != nil && !errors.Is(err, syscall.EPIPE) {
		c.err = err
	}
}

func (c *console) add(got []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, got...)
	if n := len(c.said) - maxUnread; n > 0 {
		c.drop(n)
	}
	close(c.more)
	c.more = make(chan struct{})
}

// wait waits for the end of the console; failure is why it was not kept.
func (c *console) wait() { <-c.ended }

func (c *console) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// drop forgets the beginning of what was said. The caller holds mu.
func (c *console) drop(n int) {
	rest := c.said[n:]
	if n > 0 && c.said[n-1] != '\n' {
		c.said = append(c.said[:0], append([]byte{cut}, rest...)...)
		return
	}
	c.said = append(c.said[:0], rest...)
}

// restart forgets what was said: the machine starts anew.
func (c *console) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = c.said[:0]
}

// find looks for a text, and forgets what was said up to its end. ^ and $ are at lines: not
// where the last search ended in one, nor where one has no end yet. more is closed when
// there is more to be searched.
func (c *console) find(want *regexp.Regexp, ended bool) (found bool, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	plain := bytes.TrimPrefix(c.said, []byte{cut})
	if want.Find(plain) == nil {
		return false, c.more
	}
	lines := c.said
	if !ended && len(lines) > 0 && lines[len(lines)-1] != '\n' {
		lines = append(lines, cut) // and c.said ends before it
	}
	at := want.FindIndex(lines)
	if at == nil {
		return false, c.more
	}
	c.drop(min(at[1], len(c.said)))
	return true, nil
}

// expect waits for a text behind the one that was last waited for.
func (c *console) expect(ctx context.Context, want *regexp.Regexp) error {
	for {
		found, more := c.find(want, false)
		if found {
			return nil
		}
		select {
		case <-more:
		case <-c.ended:
			if found, _ := c.find(want, true); found {
				return nil
			}
			return errOff
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// text takes out of what a terminal gets all that is no text: carriage returns, other
// control characters, and sequences of escape as ECMA-48 has them. What a read cuts off
// goes on with the next.
type text struct{ state byte }

// States: of a text, behind ESC, in a control sequence, and in a string to a device.
const (
	inText     = iota
	behindESC  // ESC
	inControl  // ESC [ ... up to a letter
	inString   // ESC ] P _ ^ X ... up to BEL or ESC \
	inStringES // ESC in it
	skipOne    // ESC ( and such, up to one more
)

func (t *text) of(data []byte) []byte {
	var out []byte
	for _, b := range data {
		switch t.state {
		case inText:
			if b == 0x1b {
				t.state = behindESC
			} else if b >= 0x20 && b != 0x7f || b == '\n' || b == '\t' {
				out = append(out, b)
			}
		case behindESC:
			t.state = after(b)
		case inControl:
			if b >= 0x40 && b <= 0x7e {
				t.state = inText
			}
		case inString:
			switch b {
			case 0x07:
				t.state = inText
			case 0x1b:
				t.state = inStringES
			}
		default:
			t.state = inText
		}
	}
	return out
}

// after is the state behind ESC and one more byte.
func after(b byte) byte {
	switch {
	case b == '[':
		return inControl
	case bytes.IndexByte([]byte("]P_^X"), b) >= 0:
		return inString
	case b >= 0x20 && b <= 0x2f:
		return skipOne
	}
	return inText
}
