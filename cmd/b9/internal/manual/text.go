package manual

import (
	"fmt"
	"strings"
)

// roff writes the macros of man(7). What its methods call marked is text that has gone
// through [escape], [bold] and [italic].
type roff struct{ strings.Builder }

func (r *roff) section(title string) { r.line(".SH " + title) }

func (r *roff) subsection(title string) { r.line(".SS " + escape(title)) }

// line adds marked text to a paragraph.
func (r *roff) line(marked string) { fmt.Fprintln(r, marked) }

// paragraph begins a new one with marked text.
func (r *roff) paragraph(marked string) { r.line(".PP\n" + marked) }

// entry is a term of a list and what is said of it, both marked.
func (r *roff) entry(term, about string) { r.line(".TP\n" + term + "\n" + about) }

// literal is a text that is shown as it is.
func (r *roff) literal(text string) {
	r.line(".PP\n.RS 2\n.nf\n" + escape(strings.Trim(text, "\n")) + "\n.fi\n.RE")
}

// paragraphs is a text of the help: what is indented stays as it is laid out.
func (r *roff) paragraphs(text string) {
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if isLaidOut(block) {
			r.literal(block)
		} else {
			r.paragraph(escape(block))
		}
	}
}

// seeAlso names other pages, which end this one.
func (r *roff) seeAlso(pages ...string) {
	r.section("SEE ALSO")
	r.line(strings.Join(pages, ", "))
}

// page is how a page is named by others.
func page(name string, section int) string { return fmt.Sprintf("%s(%d)", bold(name), section) }

func bold(text string) string { return `\fB` + escape(text) + `\fP` }

func italic(text string) string { return `\fI` + escape(text) + `\fP` }

// escape takes from the characters of a text what they mean in roff, or what man(7)
// makes of them (a hyphen of -, quotes of ' and `): groff_char(7).
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "\n.", "\n\\&.").Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// isLaidOut reports whether a line of a paragraph is indented.
func isLaidOut(block string) bool {
	return strings.HasPrefix(block, " ") || strings.Contains(block, "\n ") || strings.Contains(block, "\n\t")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// lowerFirst begins a line as one that goes on behind a dash does.
func lowerFirst(text string) string {
	if len(text) > 1 && text[1] >= 'a' && text[1] <= 'z' {
		return strings.ToLower(text[:1]) + text[1:]
	}
	return text
}
