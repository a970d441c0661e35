package query

import (
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/diagram"
)

// Dot is a graph of the targets, for graphviz: an arrow leads from a target to what it
// needs directly.
func Dot(list []*lang.Target) string {
	at := map[*lang.Target]int{}
	for i, t := range list {
		at[t] = i
	}
	nodes := make([]diagram.Node, len(list))
	for i, t := range list {
		nodes[i].Name = t.Title
		for _, d := range unique(t.Direct()) {
			if to, ok := at[d]; ok {
				nodes[i].Needs = append(nodes[i].Needs, to)
			}
		}
	}
	return diagram.Dot(nodes)
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
