// Package erlang reads, merges and prints Erlang terms, the text of the
// configuration files that file:consult/1 reads. It evaluates nothing.
//
//	Term               a term; NewAtom, NewInt, NewList ... make one
//	Parse, Options     the terms of a text, with ${name} for given terms
//	Merge, Strategies  property lists and maps merged
//	Format             terms as a text that Erlang reads back equal; FormatLine as one line
//
// layout.go breaks lines where Erlang's own io_lib breaks them.
package erlang
