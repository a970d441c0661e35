package output

import (
	"fmt"
	"io"
)

// Table aligns the columns of rows, of which there is one at least.
func Table(w io.Writer, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var text []byte
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			text = fmt.Appendf(text, "%-*s  ", widths[i], cell)
		}
		text = append(append(text, row[len(row)-1]...), '\n')
	}
	_, err := w.Write(text)
	return err
}

// Count says how many there are of something: "1 step", "2 steps".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
