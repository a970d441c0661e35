// Package near finds the name that a misspelt one most likely meant. It is the
// only "did you mean" of b9, so that a mistake gets the same answer wherever it
// is made. The package imports nothing of b9.
//
//	Match  the candidate that was meant, or ""
//	Hint   the same as the end of an error message
package near

import (
	"fmt"
	"strings"
)

// longest is the length in bytes above which a candidate is not considered.
const longest = 256

// Match returns the candidate that differs least from name, or "" when none is
// near enough to be what was meant: a third of name's bytes may differ, and one
// byte always. The difference is the number of bytes to insert, drop, replace
// or swap with a neighbour, whatever their case. Of equally near candidates the
// first wins. The empty name means none.
func Match(name string, candidates []string) string {
	if name == "" {
		return ""
	}
	name = strings.ToLower(name)
	best, bound := "", max(1, len(name)/3)+1
	for _, c := range candidates {
		if d := distance(name, strings.ToLower(c), bound); d < bound {
			best, bound = c, d
		}
	}
	return best
}

// Hint returns `: did you mean "x"?` for the candidate x that [Match] finds, or
// "" when there is none.
func Hint(name string, candidates []string) string {
	best := Match(name, candidates)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", best)
}

// distance is the optimal string alignment distance of a and b, or bound when
// that is not below bound.
//
// Row i of the table holds, for each j, the distance of the first i bytes of a
// and the first j bytes of b. A row depends on the row above it and, for swaps,
// on the one before that, so three rows are kept.
func distance(a, b string, bound int) int {
	if gap := len(a) - len(b); gap >= bound || -gap >= bound || len(b) > longest {
		return bound
	}
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return min(above[len(b)], bound)
}
