package manual

import "strings"

// escape takes from the characters of a text what they mean in Markdown.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune("\\`*_{}[]<>#|~", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// paragraphs is a text of the help in Markdown: what is indented stays as it is laid out.
func paragraphs(text string) string {
	var b strings.Builder
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if isLaidOut(block) {
			b.WriteString(literal(block))
		} else {
			b.WriteString(escape(block))
		}
		b.WriteString("\n\n")
	}
	return strings.TrimSpace(b.String())
}

// isLaidOut reports whether a line of a paragraph is indented.
func isLaidOut(block string) bool {
	return strings.HasPrefix(block, " ") || strings.Contains(block, "\n ") || strings.Contains(block, "\n\t")
}

// literal is a text that is shown as it is.
func literal(text string) string {
	return "```\n" + strings.Trim(text, "\n") + "\n```\n"
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// lowerFirst begins a line as one that goes on behind a dash does.
func lowerFirst(text string) string {
	if len(text) > 1 && text[1] >= 'a' && text[1] <= 'z' {
		return strings.ToLower(text[:1]) + text[1:]
	}
	return text
}
