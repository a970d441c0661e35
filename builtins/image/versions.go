package image

import (
	"cmp"
	"strings"
)

// compareVersions orders names with versions in them, oldest first, as dpkg does for
// versions without an epoch (deb-version(7)): runs of digits count as numbers, letters
// come before everything else, and ~ before the end.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = run(a, false)
		y, b = run(b, false)
		if c := compareText(x, y); c != 0 {
			return c
		}
		x, a = run(a, true)
		y, b = run(b, true)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
			return c
		}
	}
	return 0
}

// run splits a text behind the digits, or what is none, that it begins with.
func run(s string, digits bool) (head, rest string) {
	for i := range len(s) {
		if (s[i] >= '0' && s[i] <= '9') != digits {
			return s[:i], s[i:]
		}
	}
	return s, ""
}

func compareText(a, b string) int {
	for i := range max(len(a), len(b)) {
		if c := cmp.Compare(rank(a, i), rank(b, i)); c != 0 {
			return c
		}
	}
	return 0
}

// rank is where a byte stands in the order, and the end of the text, which is 0.
func rank(s string, i int) int {
	switch {
	case i >= len(s):
		return 0
	case s[i] == '~':
		return -1
	case s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z':
		return int(s[i])
	}
	return int(s[i]) + 256
}
