// Package fetch has fetch(), a file from the network that is known by its
// SHA-256. It hides attempts, mirrors, proxies, redirections, and downloads that
// go on where an earlier one stopped (RFC 9110, sections 13 and 14).
//
// It trusts no server: what has another digest is no result. It unpacks and
// decompresses nothing, and keeps no file but those that are incomplete.
//
//	Fetch    the operation
//	Actions  the kinds of all actions
package fetch
