package reference

import "strings"

// Argument is what a docstring says of a parameter.
type Argument struct{ Name, Doc string }

// docstring takes a function's docstring apart, as buildifier lays it out: the text, and
// what the section "Args:" says of the parameters. Other sections, such as "Returns:",
// stay in the text.
func docstring(doc string) (text string, args []Argument) {
	var rest []string
	inside := false
	for line := range strings.SplitSeq(dedent(doc), "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case line == "Args:":
			inside = true
		case !inside || trimmed != "" && !strings.HasPrefix(line, " "):
			inside = false
			rest = append(rest, line)
		case trimmed == "":
		case strings.HasPrefix(line, "   ") && len(args) > 0: // goes on
			args[len(args)-1].Doc += " " + trimmed
		default:
			name, about, _ := strings.Cut(trimmed, ":")
			args = append(args, Argument{name, strings.TrimSpace(about)})
		}
	}
	return strings.TrimSpace(sections(rest)), args
}

// sections joins lines; what stands indented below a heading such as "Returns:" moves up
// beside it.
func sections(lines []string) string {
	var b strings.Builder
	heading := false
	for _, line := range lines {
		switch {
		case heading && strings.HasPrefix(line, " "):
			b.WriteString(" " + strings.TrimSpace(line))
			continue
		case b.Len() > 0:
			b.WriteByte('\n')
		}
		heading = strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") && !strings.Contains(line, " ")
		b.WriteString(line)
	}
	return b.String()
}

// dedent takes from every line but the first what all of these are indented by.
func dedent(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	indent := -1
	for _, line := range lines[1:] {
		if trimmed := strings.TrimLeft(line, " "); trimmed != "" && (indent < 0 || len(line)-len(trimmed) < indent) {
			indent = len(line) - len(trimmed)
		}
	}
	for i, line := range lines[1:] {
		lines[i+1] = strings.TrimRight(line[min(max(indent, 0), len(line)):], " ")
	}
	return strings.Join(lines, "\n")
}
