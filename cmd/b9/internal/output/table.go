package output

import (
	"fmt"
	"unicode/utf8"
)

// Table aligns the columns of rows, which all have as many.
func Table(rows [][]string) string {
	widths := map[int]int{} // in characters
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text []byte
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			text = fmt.Appendf(text, "%-*s  ", widths[i], cell)
		}
		text = append(append(text, row[len(row)-1]...), '\n')
	}
	return string(text)
}

// Count says how many there are of something: "1 step", "2 steps".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
