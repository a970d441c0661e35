package display

import (
	"fmt"
	"io"
	"strings"
)

// screen keeps a region at the bottom of a terminal, and prints lines above
// it. The cursor rests on the line below the region and is never hidden, so
// that a killed program leaves a usable terminal.
//
// Everything that changed since the last frame goes out in one write, so that
// nothing flickers.
type screen struct {
	w     io.Writer
	size  func() (cols, rows int)
	color bool

	above  []byte // lines that wait for the next frame
	last   string // the region as it is drawn
	widths []int  // of its lines, in columns
	closed bool
}

// tooMuch is how many bytes may wait for a frame.
const tooMuch = 64 << 10

// print puts a line above the region. It may be wider than the terminal.
func (s *screen) print(line []segment) {
	s.above = append(s.above, render(line, s.color)...)
	s.above = append(s.above, '\n')
	if s.closed || len(s.above) > tooMuch {
		s.draw(s.last, s.widths)
	}
}

// show draws the region anew if it has changed or lines wait.
func (s *screen) show(lines [][]segment) {
	if s.closed {
		return
	}
	cols, _ := s.size()
	var b strings.Builder
	var widths []int
	for _, line := range lines {
		// A character in the last column would leave some terminals
		// undecided about where the cursor is.
		fitted, width := fit(line, cols-1)
		b.WriteString(render(fitted, s.color))
		b.WriteString("\x1b[K\n")
		widths = append(widths, width)
	}
	if b.String() != s.last || len(s.above) > 0 {
		s.draw(b.String(), widths)
	}
}

// close erases the region; lines are printed at once from now on.
func (s *screen) close() {
	s.closed = true
	if s.last != "" || len(s.above) > 0 {
		s.draw("", nil)
	}
}

// draw replaces the region, and prints what waits above it.
func (s *screen) draw(region string, widths []int) {
	var frame []byte
	if up := s.height(); up > 0 {
		frame = fmt.Appendf(frame, "\x1b[%dA\r", up)
		if len(s.above) > 0 || len(widths) < len(s.widths) {
			frame = append(frame, "\x1b[J"...)
		}
	}
	frame = append(frame, s.above...)
	frame = append(frame, region...)
	// An error of standard error has nowhere to be printed.
	_, _ = s.w.Write(frame)
	s.above, s.last, s.widths = s.above[:0], region, widths
}

// height is the number of rows that the region has now: when the window has
// become narrower, terminals fold lines that no longer fit.
func (s *screen) height() int {
	cols, _ := s.size()
	rows := 0
	for _, w := range s.widths {
		rows += max(1, (w+cols-1)/max(1, cols))
	}
	return rows
}
