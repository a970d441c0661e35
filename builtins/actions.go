package builtins

import (
	"slices"

	"b9/builtins/debian"
	"b9/builtins/fetch"
	"b9/builtins/image"
	"b9/builtins/share"
	"b9/engine"
)

// Actions is the table of all actions of this package and of those below it,
// by their kinds. It lets the engine read an action that was written down, in
// a trace or for another machine: see [engine.DecodeAction].
func Actions() engine.Actions {
	table := engine.Actions{}
	for _, zero := range slices.Concat(image.Actions(), debian.Actions(), fetch.Actions(), share.Actions(), contentActions()) {
		table[zero().Kind()] = zero
	}
	return table
}

func contentActions() []func() engine.Action {
	return []func() engine.Action{
		func() engine.Action { return &cloudInit{} },
		func() engine.Action { return &digestFile{} },
		func() engine.Action { return &erlangConfig{} },
		func() engine.Action { return &expandTemplate{} },
		func() engine.Action { return &lxcExec{} },
		func() engine.Action { return &makeTree{} },
		func() engine.Action { return &mergeYAML{} },
		func() engine.Action { return &sizeFile{} },
		func() engine.Action { return &writeFile{} },
	}
}
