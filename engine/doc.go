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
// builds refs and returns [Artifact]s. While an action runs it sees a [Job].
// A [Source] reads the world outside the graph, and a [Located] one is used
// where it lies.
//
// # Keys
//
// The key of a step is the BLAKE3 digest of the cache version, the action's
// kind, every field of the action, the fingerprint of a source, the versions
// of the host tools it calls, and the content digests of its inputs. A step
// whose inputs were made again with the same content is therefore not run
// again. The key is stored by its parts, so that [Explain] can say which of
// them changed.
package engine
