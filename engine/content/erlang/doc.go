// Package erlang reads, merges and prints Erlang terms, the text of the
// configuration files that file:consult/1 reads. It evaluates nothing.
//
//	Term, Kind       a term; NewAtom, NewInt ... make one
//	Parse, Options   the terms of a text, with ${name} for given terms
//	Merge, Strategy  property lists and maps merged
//	Format           terms as a text that Erlang reads back equal; FormatLine as one line
package erlang
