// Package yaml reads and writes configuration: values with the positions where
// they were written. YAML is read as PyYAML reads it, which cloud-init uses, so
// that a document means here what it will mean in the machine; JSON and TOML
// are read into the same tree. It checks no document against a schema.
//
//	Node, Fields, Field   a value and its position; Bytes and Time are values without a Go type of their own
//	FieldSet              a mapping under construction
//	Document              what Parse, ParseJSON and ParseTOML return; Node.YAML, JSON and TOML write it
//	Finding               a mistake or a warning in a document; Silence and Split sort them
//
// Reading goes through three layers: scanner cuts the text into tokens, parser
// makes a syntax tree of them, reader gives the scalars of the tree their
// values and resolves aliases and merge keys.
package yaml
