package display

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// clearLine goes to the start of a terminal's line and erases it.
const clearLine = "\r\x1b[K"

// Console is standard error while a command runs. Messages, the line of a
// transfer, and the display of a build share it, so that none is written over
// another. Its methods may be called by several goroutines.
type Console struct {
	w io.Writer

	mu     sync.Mutex
	build  *Display // that is shown, nil for none
	onLine bool     // the line of a transfer is on the terminal
	log    func(text string)
}

// NewConsole returns the console on w.
func NewConsole(w io.Writer) *Console { return &Console{w: w} }

// AlsoTo has what [Console.Note] and [Console.Warn] tell written down by a function; nil is for nobody.
func (c *Console) AlsoTo(log func(text string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = log
}

// Build shows a build from now on, until end is called.
func (c *Console) Build(o Options) (d *Display, end func()) {
	d = New(c.w, o)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.build = d
	return d, func() {
		d.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.build = nil
	}
}

// Pause erases what a build shows until resume is called.
func (c *Console) Pause() (resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.build == nil {
		return func() {}
	}
	return c.build.Pause()
}

// Write prints a message, which has whole lines, in the place of a transfer's line.
// It goes beside the display of a build, which has ended or not begun; what is to
// be told while a build is shown goes through [Console.Warn].
func (c *Console) Write(p []byte) (int, error) {
	c.EndLine()
	return c.w.Write(p)
}

// Warn tells of something that hinders what is done and does not stop it.
func (c *Console) Warn(format string, args ...any) {
	c.Note("warning: " + fmt.Sprintf(format, args...))
}

// Note tells of something while a build is shown, or is not.
func (c *Console) Note(text string) {
	message := "b9: " + text
	c.mu.Lock()
	d, log := c.build, c.log
	c.mu.Unlock()
	if log != nil {
		log(text)
	}
	if d != nil {
		d.Note(message)
		return
	}
	fmt.Fprintln(c, message)
}

// Abandon erases what a build shows, or the line of a transfer, before the process ends in
// the midst of it.
func (c *Console) Abandon() {
	if !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	if c.build != nil {
		c.build.abandon()
	}
	if c.onLine {
		fmt.Fprint(c.w, clearLine)
	}
}

// Line returns a function that shows a text on one line of the terminal, in the
// place of the one before. It is nil where there is no terminal.
func (c *Console) Line() func(text string) {
	if !IsTerminal(c.w) {
		return nil
	}
	size := TerminalSize(c.w)
	return func(text string) {
		cols, _ := size()
		runes := []rune(text)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.onLine = true
		fmt.Fprint(c.w, clearLine+string(runes[:max(0, min(len(runes), cols-1))]))
	}
}

// EndLine erases the line of a transfer.
func (c *Console) EndLine() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.onLine {
		c.onLine = false
		fmt.Fprint(c.w, clearLine)
	}
}

// IsTerminal reports whether w, a reader or a writer, is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && IsTTY(f)
}

// IsTTY reports whether a terminal is behind f.
func IsTTY(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// TerminalSize returns a function that asks the terminal behind w each time,
// 80 by 24 where there is none or its answer makes no sense.
func TerminalSize(w io.Writer) func() (int, int) {
	f, ok := w.(*os.File)
	return func() (int, int) {
		if ok {
			if cols, rows, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 && rows > 0 {
				return cols, rows
			}
		}
		return 80, 24
	}
}
