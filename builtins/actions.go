package builtins

import (
	"maps"

	"b9.build/b9/builtins/debian"
	"b9.build/b9/builtins/fetch"
	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/machine"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine"
)

// Actions is the table of all actions of this package and of those below it by
// their kinds, of which a type may have several. It lets the engine read an
// action that was written down, in a trace or for another machine: see
// [engine.DecodeAction].
func Actions() engine.Actions {
	table := engine.Actions{
		"cloud_init/4":    func() engine.Action { return &cloudInit{} },
		"digest/1":        func() engine.Action { return &digestFile{} },
		"encode/1":        func() engine.Action { return &encodeFile{} },
		"erlang_config/2": func() engine.Action { return &erlangConfig{} },
		"file/1":          func() engine.Action { return &writeFile{} },
		"lxc_exec/4":      func() engine.Action { return &lxcExec{} },
		"member/2":        func() engine.Action { return &lang.Member{} },
		"merge_yaml/3":    func() engine.Action { return &mergeYAML{} },
		"secret/1":        func() engine.Action { return &secretDigest{} },
		"sign_efi/1":      func() engine.Action { return &signEFI{} },
		"size/1":          func() engine.Action { return &sizeFile{} },
		"template/2":      func() engine.Action { return &expandTemplate{} },
		"tree/3":          func() engine.Action { return &makeTree{} },
	}
	for _, below := range []engine.Actions{image.Actions(), debian.Actions(), fetch.Actions(), machine.Actions(), share.Actions()} {
		maps.Copy(table, below)
	}
	return table
}
