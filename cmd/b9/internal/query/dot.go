package query

import (
	"fmt"
	"strings"

	"b9.build/b9/builtins/lang"
)

// Dot is a graph of the targets, for graphviz: an arrow leads from a target to what it
// needs directly.
func Dot(list []*lang.Target) string {
	has := members(list)
	var b strings.Builder
	b.WriteString("digraph b9 {\n  node [shape=box];\n")
	for _, t := range list {
		fmt.Fprintf(&b, "  %s;\n", quoted(t.Title))
	}
	for _, t := range list {
		for _, d := range unique(t.Direct()) {
			if has[d] {
				fmt.Fprintf(&b, "  %s -> %s;\n", quoted(t.Title), quoted(d.Title))
			}
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// quoted is a text in the language of graphviz, in which only quotes and a backslash
// before one are special.
func quoted(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

// Location is the place of a target: of a source file its first character.
func Location(t *lang.Target) string {
	if at, ok := t.Source(); ok {
		return at + ":1:1"
	}
	if t.Position.File == "" {
		return "-"
	}
	return t.Position.String()
}
