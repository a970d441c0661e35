package build

import (
	"strings"
	"testing"
)

func TestChanged(t *testing.T) {
	long := strings.Repeat("0123456789", 9)
	for _, c := range []struct{ old, new, want string }{
		{"two ", "2 ", `"two " -> "2 "`},
		{"", "x", `(none) -> "x"`},
		{"set -ex\na\nb\nc", "set -ex\na\nB\nc", `"b" -> "B"`},
		{"a\nb", "a\nb\nc", `(none) -> "c"`},
		{"a\nb", "a\nb\n", `(none) -> ""`},
		{"a\nb\nc\nd", "a\nx\ny\nz\nd", `"b" -> "x", and 2 lines more`},
		{"a", "a\nb\nc", `(none) -> "b", and 1 line more`},
		{long + "x", long + "y", `…"01234567890123456789x" -> …"01234567890123456789y"`},
		{"short", long, `"short" -> "` + long[:57] + `"…`},
		{"file b3:0123456789abcdef", "file b3:fedcba9876543210", "file b3:0123456789ab -> file b3:fedcba987654"},
		{strings.Repeat("ä", 40) + "x", strings.Repeat("ä", 40) + "y", `…"` + strings.Repeat("ä", 10) + `x" -> …"` + strings.Repeat("ä", 10) + `y"`},
	} {
		if got := changed(c.old, c.new); got != c.want {
			t.Errorf("%q to %q: %s, want %s", c.old, c.new, got, c.want)
		}
	}
}
