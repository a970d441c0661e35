package builtins

import "b9/engine"

// Actions is the table of all actions of this package by their kinds. It lets
// the engine read an action that was written down, in a trace or for another
// machine: see [engine.DecodeAction].
func Actions() engine.Actions {
	table := engine.Actions{}
	for _, zero := range []func() engine.Action{
		func() engine.Action { return &bootstrap{} },
		func() engine.Action { return &cloudInit{} },
		func() engine.Action { return &convertImage{} },
		func() engine.Action { return &digestFile{} },
		func() engine.Action { return &erlangConfig{} },
		func() engine.Action { return &expandTemplate{} },
		func() engine.Action { return &fetchFile{} },
		func() engine.Action { return &importImage{} },
		func() engine.Action { return &lxcExec{} },
		func() engine.Action { return &makeDiskImage{} },
		func() engine.Action { return &makeImage{} },
		func() engine.Action { return &makeTree{} },
		func() engine.Action { return &mergeYAML{} },
		func() engine.Action { return &overlayImage{} },
		func() engine.Action { return &resizeImage{} },
		func() engine.Action { return &shareImage{} },
		func() engine.Action { return &sharedImage{} },
		func() engine.Action { return &shrinkImage{} },
		func() engine.Action { return &sizeFile{} },
		func() engine.Action { return &takePartition{} },
		func() engine.Action { return &writeFile{} },
	} {
		table[zero().Kind()] = zero
	}
	return table
}
