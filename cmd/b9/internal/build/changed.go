package build

import (
	"strconv"
	"strings"

	"b9.build/b9/cmd/b9/internal/output"
)

// changed shows what differs between two values: of texts of several lines the
// first that do, of long ones the part.
func changed(old, new string) string {
	was, is := differingLines(old, new)
	cut := 0
	if len(was) > 0 && len(is) > 0 && len(was[0]) > briefMost && len(is[0]) > briefMost {
		cut = max(0, commonPrefix(was[0], is[0])-briefMost/3)
	}
	text := brief(was, cut) + " -> " + brief(is, cut)
	if n := max(len(was), len(is)) - 1; n > 0 {
		text += ", and " + output.Count(n, "line", "lines") + " more"
	}
	return text
}

// differingLines leaves out the lines that both texts begin and end with.
func differingLines(old, new string) (was, is []string) {
	was, is = lines(old), lines(new)
	for len(was) > 0 && len(is) > 0 && was[0] == is[0] {
		was, is = was[1:], is[1:]
	}
	for len(was) > 0 && len(is) > 0 && was[len(was)-1] == is[len(is)-1] {
		was, is = was[:len(was)-1], is[:len(is)-1]
	}
	return was, is
}

// lines are those of a text; nothing has none.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// briefMost is how many bytes of a value are shown.
const briefMost = 60

// brief shows the first line from an offset on.
func brief(lines []string, from int) string {
	if len(lines) == 0 {
		return "(none)"
	}
	v, head, tail := lines[0], "", ""
	if strings.HasPrefix(v, "file b3:") || strings.HasPrefix(v, "tree b3:") {
		return v[:min(len(v), len("file b3:")+12)]
	}
	if from > 0 {
		head, v = "…", v[from:]
	}
	if len(v) > briefMost {
		tail, v = "…", v[:briefMost-3]
	}
	return head + strconv.Quote(strings.ToValidUTF8(v, "")) + tail
}
