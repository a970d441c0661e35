// Package engine makes the nodes of a build graph: it computes their keys,
// looks them up in the store, runs what is missing in parallel, and places
// results for the user. It hides scheduling, caching, locking between
// processes and the life of a step's scratch directory.
//
// It does not know Starlark, disk formats or file systems: those are the
// business of the actions, structs of plain values that package builtins
// defines. A program can define its own.
//
// The types: a [Node] is an immutable step made by [NewNode] from an
// [Action] and its [Input]s; a [Ref] names one output of a node. An [Engine]
// builds refs and returns [Artifact]s, which are opened, forked or exposed at a
// path. While an action runs it sees a [Job]. A [Source] reads the world outside
// the graph; a [Located] one is used where it lies, and a [Moving] one is asked
// again right before it runs. [Actions] is the table by which an action is read
// that was written down with [EncodeAction]. A [Placer] puts results where the
// user finds them, and a [Trace] says what a build rested on.
//
// The files: plan.go has the graph of a build, schedule.go the order in which
// its steps are worked on, and step.go the life of one step.
//
// # Keys
//
// The key of a step is the BLAKE3 digest of the cache version, the action's
// kind, every field of the action, the fingerprint of a source, the versions
// of the host tools it calls, and the content digests of its inputs, or the
// keys of the steps that made them where an [Output] says so. A step
// whose inputs were made again with the same content is therefore not run
// again. The key is stored by its parts, so that [Explain] can say which of
// them changed.
package engine
