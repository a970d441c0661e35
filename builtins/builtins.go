package builtins

import (
	"go.starlark.net/starlark"
)

// operations is the table of everything that build files can call beside the
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
// group.go is the shortest example, template.go one with everything.
func operations() []Operation {
	return []Operation{
		bootstrapOperation(),
		cloudInitOperation(),
		convertOperation(),
		digestOperation(),
		diskOperation(),
		erlAtomOperation(),
		erlBinaryOperation(),
		erlStringOperation(),
		erlangConfigOperation(),
		fetchOperation(),
		fileOperation(),
		globOperation(),
		groupOperation(),
		imageOperation(),
		lxcExecOperation(),
		matrixOperation(),
		mergeYAMLOperation(),
		optionOperation(),
		overlayOperation(),
		partOperation(),
		partitionOperation(),
		resizeOperation(),
		shareOperation(),
		sharedOperation(),
		shrinkOperation(),
		sizeOperation(),
		templateOperation(),
		treeOperation(),
		writableOperation(),
	}
}

// Operations lists every built-in with all its parameters, for help and
// documentation.
func Operations() []Operation {
	list := operations()
	for i := range list {
		list[i].Params = list[i].allParams()
	}
	return list
}

// environment is what every build file finds defined.
func environment() starlark.StringDict {
	env := languageNames()
	ops := operations()
	for i := range ops {
		sig := &signature{op: &ops[i], params: ops[i].allParams()}
		env[ops[i].Name] = starlark.NewBuiltin(ops[i].Name, sig.call)
	}
	env.Freeze()
	return env
}
