package builtins

import (
	"b9.build/b9/builtins/debian"
	"b9.build/b9/builtins/fetch"
	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/machine"
	"b9.build/b9/builtins/share"
	"b9.build/b9/engine/container"
)

// Operations is the table of everything that build files can call beside the
// language itself.
//
// To add an operation, write one file and add one line here. The file holds
//
//   - a function that returns the Operation: its name, documentation and
//     parameters with their types, defaults, ranges and enumerations, which
//     are checked before make is called;
//   - make: it reads the arguments from the Call by parameter name, checks
//     what concerns several of them together (c.Errorf records a mistake, with
//     the place added), and returns the Step: an action, its inputs under the
//     roles the action asks for, and its outputs. It does no I/O;
//   - the action: a struct of plain exported values, all of which become part
//     of the key, with Kind and Run. Run sees no Starlark value and reads
//     nothing but its inputs.
//
// What depends on what the inputs turn out to be (a label's format, the text
// of a template) goes into Step.Finish, which runs once they are known.
// group.go is the shortest example, template.go one with everything. A program
// that embeds b9 appends operations of its own to the table.
func Operations(s Settings) []lang.Operation {
	if s.Shared == nil {
		s.Shared = share.NewImages(share.Config{}, "")
	}
	return []lang.Operation{
		base64Operation(),
		image.BootFiles(),
		machine.BootTest(s.Machine),
		debian.Bootstrap(s.Bootstrap, s.Image),
		image.Canonical(),
		cloudInitOperation(),
		image.Convert(),
		digestOperation(),
		image.Disk(),
		erlAtomOperation(),
		erlBinaryOperation(),
		erlStringOperation(),
		erlangConfigOperation(),
		fetch.Fetch(),
		fileOperation(),
		image.Files(),
		lang.Glob(),
		groupOperation(),
		image.GUID(),
		gzipOperation(),
		image.Image(s.Image),
		lxcExecOperation(s.Container),
		matrixOperation(),
		mergeYAMLOperation(),
		lang.Option(),
		image.Overlay(),
		image.Part(),
		image.Partition(),
		image.Replace(),
		image.Resize(),
		lang.Secret(),
		share.Share(),
		share.Shared(s.Shared),
		image.Shrink(),
		signEFIOperation(),
		sizeOperation(),
		templateOperation(),
		treeOperation(),
		image.UKI(),
		image.Verity(),
		machine.Operation(),
		lang.Writable(),
	}
}

// Settings are what the operations of one workspace need beside their
// arguments. The zero value serves a program without shared images.
type Settings struct {
	Bootstrap debian.Defaults
	Image     image.Defaults     // of new file systems
	Container container.Defaults // of lxc_exec(); what a script can see of them is in its key
	Machine   machine.Defaults   // of boot_test()
	Shared    *share.Images      // nil: share() and shared() find no repository
}
