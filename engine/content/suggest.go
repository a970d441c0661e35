package content

import "strings"

// Nearest returns the candidate that is closest to name by the number of
// letters to insert, drop, replace or swap with a neighbour, ignoring case,
// or "" when none is close enough to be what was meant. Of equally close
// candidates the first wins.
func Nearest(name string, candidates []string) string {
	name = strings.ToLower(name)
	limit := max(1, len(name)/3)
	best, bestDistance := "", limit+1
	for _, c := range candidates {
		if d := distance(name, strings.ToLower(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance of a and b, or any
// number of at least bound when it is not below bound.
func distance(a, b string, bound int) int {
	if gap := len(a) - len(b); gap >= bound || -gap >= bound || len(b) > 256 {
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
	return above[len(b)]
}
