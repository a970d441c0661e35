// Package diagram draws graphs: for graphviz ([Dot]), for Mermaid ([Mermaid]), and as a
// picture whose layout is its own ([SVG]). It knows nothing of what it draws.
package diagram

import (
	"fmt"
	"strings"
)

// Node is one node of a graph. An arrow leads to each node that it needs.
type Node struct {
	Name  string
	Below string // a second line; "" for none
	Needs []int  // indexes of nodes, each once
	Class string // words for what a style may make of it; "" for none
	Link  string // where a click leads; "" for nowhere
}

// Dot is the graph in the language of graphviz.
func Dot(nodes []Node) string {
	var b strings.Builder
	b.WriteString("digraph b9 {\n  node [shape=box];\n")
	for _, n := range nodes {
		fmt.Fprintf(&b, "  %s;\n", quoted(n.Name))
	}
	for _, n := range nodes {
		for _, i := range n.Needs {
			fmt.Fprintf(&b, "  %s -> %s;\n", quoted(n.Name), quoted(nodes[i].Name))
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

// Mermaid is the graph as a Mermaid flowchart. Texts are given in quotes, in which its
// entity codes stand for what would end or format them.
func Mermaid(nodes []Node) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	for i, n := range nodes {
		text := entities(n.Name)
		if n.Below != "" {
			text += "<br>" + entities(n.Below)
		}
		fmt.Fprintf(&b, "  n%d[\"%s\"]\n", i, text)
	}
	for i, n := range nodes {
		for _, to := range n.Needs {
			fmt.Fprintf(&b, "  n%d --> n%d\n", i, to)
		}
	}
	return b.String()
}

// entities writes all but letters, digits and what is plain in labels as entity codes.
func entities(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strings.ContainsRune(" /:._-+=@,()", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, "#%d;", r)
		}
	}
	return b.String()
}
