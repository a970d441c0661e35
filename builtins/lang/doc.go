// Package lang is the build language: it finds the workspace, evaluates build
// files, and turns the calls they make into a graph of engine nodes. It hides
// the interpreter, loading, linking, and the bounds that keep a hostile build
// file from harm; outside of it Starlark values are met only by operations.
//
// It builds nothing, and has no operations but those of the language: what files
// can call beside glob(), option(), secret() and writable() is given to Open.
//
//	Workspace, Config, Open     a directory tree with build files; Limits
//	Workspace.Resolve, Graph    patterns to targets, and queries over them
//	Target, Label, Placement    what a pattern named, its name, where its results go
//	Operation, Param, Type      a function of build files, as its maker describes it
//	Call, Input, Entry          one call of it: its arguments, checked
//	Step, StepInput, Linked     what a call asks for, and the same once its inputs are known
//	Handle, WritableValue, SecretValue  what calls return in a build file
//	Error, Errors, Frame        mistakes, with file:line:col and call stack
//
// # The language
//
// Build files are Starlark as its specification defines it, with set() and
// with if and for outside of functions; while, recursion and the reassignment
// of globals are off. load() takes "//pkg:lib.star", ":lib.star" for the
// directory of the loading file, and "@b9//NAME.star" for the libraries that
// come with b9. A file is evaluated once, then frozen. It can reach no clock,
// network, process or environment; the files it can read are those of load(),
// glob() and the source paths it names, and all of these are recorded.
//
// Evaluation is bounded in steps, memory and time, a single value in size and
// depth, and cancelling the context stops it.
//
// # Names
//
// A call with name= makes a target of the file that is being evaluated, also
// when the call stands in a function of a loaded file; strings in such a
// function are relative to that file's package, too. A string where a handle
// is expected is a label when it begins with "//", ":" or "@", else the path of
// a source file below the package. A target is visible to the whole workspace
// unless visibility= says otherwise; one whose name begins with an underscore
// only to its own package. Handles that are passed along are not subject to
// visibility.
//
// "examples/web.star" alone stands for the target "web" of that file, or for
// its only target.
package lang
