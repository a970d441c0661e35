// Package content makes the text that goes into images: it expands templates
// strictly and finds the name someone meant. It reads and writes no file and
// knows nothing of build files or of the graph.
//
//	Template   a parsed template; ParseTemplate, Check, Execute
//	ErlTerm    an Erlang term; ParseErl, MergeErl, FormatErl
//	Error      a mistake at a line and column of a document
package content
