// Package builtins is the table of the operations that build files can call,
// and of their actions. It holds the small operations itself: file, tree, group,
// matrix, template, digest and size, merge_yaml, cloud_init, erlang_config and
// lxc_exec. The others are packages below it: image, debian, fetch and share.
//
// It hides which package has an operation. The language itself, with labels,
// loading and linking, is package lang, which knows none of the operations that
// are here; nothing is built here, which engine does.
//
//	Operations, Settings   what lang.Open is given
//	Actions                every action by its kind, for engine.DecodeAction
//	DefaultEnv             the environment of commands in containers
package builtins
