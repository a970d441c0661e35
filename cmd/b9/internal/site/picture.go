package main

import (
	"fmt"
	"html"
	"io"
	"regexp"
	"strings"
	"sync"
)

// A picture of a terminal: what a program wrote to one, as SVG. The display of b9 goes up
// some lines, erases what is there and writes again; nothing else moves the cursor, so that
// a list of lines is enough of a terminal.

// sequence is a piece of what a program writes: one that moves, erases or colours, the end
// of a line, or text.
var sequence = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\x1b\[([0-9;]*)([A-Za-z])|\r?\n|\r|[^\x1b\r\n]+`) })

// span is text of one colour.
type span struct{ class, text string }

// terminal is what a terminal shows.
type terminal struct {
	lines [][]span
	row   int
	class string
}

// classes are the styles of SGR that b9 uses.
func classes() map[string]string {
	return map[string]string{"0": "", "": "", "1": "b", "2": "d", "31": "r", "32": "g", "33": "y", "36": "c"}
}

// write shows what a program wrote.
func (t *terminal) write(recorded string) {
	for _, m := range sequence().FindAllStringSubmatch(recorded, -1) {
		for t.row >= len(t.lines) {
			t.lines = append(t.lines, nil)
		}
		switch {
		case m[2] == "A":
			up := 1
			_, _ = fmt.Sscan(m[1], &up)
			t.row = max(0, t.row-up)
		case m[2] == "J":
			t.lines = append(t.lines[:t.row], nil)
		case m[2] == "m":
			t.class = classes()[m[1]]
		case m[2] != "":
		case m[0] == "\r":
			t.lines[t.row] = nil
		case strings.HasSuffix(m[0], "\n"):
			t.row++
		default:
			t.lines[t.row] = append(t.lines[t.row], span{t.class, m[0]})
		}
	}
}

// The size of a character, in pixels.
const charWidth, lineHeight = 8.4, 20

// svg draws a terminal of so many columns; what is wider is cut.
func (t *terminal) svg(w io.Writer, title string, columns int) error {
	lines := t.lines
	for len(lines) > 0 && len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	var b strings.Builder
	width, height := int(float64(columns)*charWidth)+32, len(lines)*lineHeight+28
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="%s">
<style>text{font:14px ui-monospace,Menlo,Consolas,monospace;fill:#e6edf3;white-space:pre}.b{font-weight:700}.d{fill:#9198a1}.r{fill:#ff7b72}.g{fill:#7ee787}.y{fill:#e3b341}.c{fill:#79c0ff}</style>
<rect width="100%%" height="100%%" rx="8" fill="#0d1117"/>
`, width, height, html.EscapeString(title))
	for i, line := range lines {
		fmt.Fprintf(&b, `<text x="16" y="%d">`, 28+i*lineHeight)
		left := columns
		for _, s := range line {
			text := []rune(s.text)
			text = text[:min(left, len(text))]
			left -= len(text)
			fmt.Fprintf(&b, `<tspan class="%s">%s</tspan>`, s.class, html.EscapeString(string(text)))
		}
		b.WriteString("</text>\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
