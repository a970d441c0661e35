package display

import (
	"io"
	"os"

	"golang.org/x/term"
)

// IsTerminal reports whether w, a reader or a writer, is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && IsTTY(f)
}

// IsTTY reports whether a terminal is behind f.
func IsTTY(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// TerminalSize returns a function that asks the terminal behind w each time,
// and takes 80 by 24 for an answer that makes no sense.
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
