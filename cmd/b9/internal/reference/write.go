package reference

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"sync"

	"b9.build/b9/builtins/lang"
)

// Type is what a parameter takes: "string, default "1G", one of a, b".
func Type(p lang.Param) string {
	text := p.Type.String()
	switch {
	case p.Required:
		text += ", required"
	case p.Default != nil:
		text += ", default " + p.Default.String()
	}
	if len(p.Enum) > 0 {
		text += ", one of " + strings.Join(p.Enum, ", ")
	}
	return text
}

// Text is an entry for a terminal.
func Text(e *Entry) string {
	var b strings.Builder
	name := e.Call
	if name == "" {
		name = e.Name + "()"
	}
	if len(name) > lineWidth {
		fmt.Fprintf(&b, "%s\n\n%s\n", wrapped(name), strings.TrimSpace(e.Doc))
	} else {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.TrimSpace(e.Doc))
	}
	if len(e.Params)+len(e.Args) > 0 {
		b.WriteString("\nParameters:\n")
	}
	for _, p := range e.Params {
		fmt.Fprintf(&b, "  %s: %s\n      %s\n", p.Name, Type(p), p.Doc)
	}
	for _, a := range e.Args {
		fmt.Fprintf(&b, "  %s\n      %s\n", a.Name, a.Doc)
	}
	if e.Example != "" {
		fmt.Fprintf(&b, "\nExample:\n  %s\n", strings.ReplaceAll(e.Example, "\n", "\n  "))
	}
	return b.String()
}

// lineWidth is from which width on, in bytes, a call is shown on several lines.
const lineWidth = 80

// wrapped is a call on several lines.
func wrapped(call string) string {
	var b strings.Builder
	width := 0
	for i, word := range strings.SplitAfter(call, ", ") {
		if i > 0 && width+len(word) > lineWidth {
			b.WriteString("\n    ")
			width = 4
		}
		b.WriteString(word)
		width += len(word)
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// List is the names of parts for a terminal, a line each.
func List(parts []Part) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s: %s\n", p.Name, firstLine(p.Doc))
		for _, e := range p.Entries {
			fmt.Fprintf(&b, "  %-18s %s\n", e.Name, e.Summary())
		}
	}
	return b.String()
}

// Markdown writes parts as CommonMark, with a heading for each name.
func Markdown(w io.Writer, parts []Part) error {
	var b strings.Builder
	b.WriteString("# Reference of build files\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", p.Name, prose(p.Doc))
		for _, e := range p.Entries {
			fmt.Fprintf(&b, "\n### %s\n\n", e.Name)
			if e.Call != "" {
				fmt.Fprintf(&b, "    %s\n\n", e.Call)
			}
			fmt.Fprintf(&b, "%s\n", prose(e.Doc))
			parameterTable(&b, &e)
			if e.Example != "" {
				fmt.Fprintf(&b, "\n```python\n%s\n```\n", e.Example)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func parameterTable(b *strings.Builder, e *Entry) {
	if len(e.Params) > 0 {
		b.WriteString("\n| parameter | takes | meaning |\n|---|---|---|\n")
	} else if len(e.Args) > 0 {
		b.WriteString("\n| parameter | meaning |\n|---|---|\n")
	}
	for _, p := range e.Params {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.Name, cell(Type(p)), cell(p.Doc))
	}
	for _, a := range e.Args {
		fmt.Fprintf(b, "| `%s` | %s |\n", a.Name, cell(a.Doc))
	}
}

// prose is a docstring in Markdown: paragraphs, and blocks that are laid out.
func prose(text string) string {
	var b strings.Builder
	for _, block := range blocks(text) {
		if block.Code {
			fmt.Fprintf(&b, "```\n%s\n```\n\n", block.Text)
		} else {
			b.WriteString(plain(block.Text) + "\n\n")
		}
	}
	return strings.TrimRight(b.String(), "\n")
}

// plain takes from a text what Markdown would make of it.
func plain(text string) string {
	return strings.NewReplacer("\\", "\\\\", "*", "\\*", "_", "\\_", "<", "&lt;", "`", "\\`", "#", "\\#", "[", "\\[").Replace(text)
}

// cell is a text within a table.
func cell(text string) string {
	return strings.ReplaceAll(plain(strings.Join(strings.Fields(text), " ")), "|", "\\|")
}

// block is a paragraph, or lines that are laid out.
type block struct {
	Text string
	Code bool
}

// blocks cuts a text at its empty lines. Where a line is indented, the block stays as it is.
func blocks(text string) []block {
	var list []block
	for part := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		code := strings.HasPrefix(part, " ") || strings.Contains(part, "\n ")
		if n := len(list); code && n > 0 && list[n-1].Code {
			list[n-1].Text += "\n\n" + part
			continue
		}
		list = append(list, block{strings.Trim(part, "\n"), code})
	}
	return list
}

//go:embed reference.html
var skeleton string

var layout = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("reference").Funcs(template.FuncMap{"blocks": blocks, "type": Type}).Parse(skeleton))
})

// HTML writes parts as a page that loads nothing else, with a search.
func HTML(w io.Writer, parts []Part) error { return layout().Execute(w, parts) }
