package lsp

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	protocol "github.com/tliron/glsp/protocol_3_16"
)

// document is an open file as the editor has it.
type document struct {
	path string // absolute
	text string
}

// offset is the byte at a position, whose columns are UTF-16 code units.
func (d *document) offset(at protocol.Position) int {
	rest, start := d.text, 0
	for range at.Line {
		i := strings.IndexByte(rest, '\n')
		if i < 0 {
			return len(d.text)
		}
		start, rest = start+i+1, rest[i+1:]
	}
	line, _, _ := strings.Cut(rest, "\n")
	units := 0
	for i, r := range line {
		if units >= int(at.Character) {
			return start + i
		}
		units += max(1, utf16.RuneLen(r))
	}
	return start + len(line)
}

// position turns a line and a column in characters, both from 1, into the editor's.
func (d *document) position(line, col int) protocol.Position {
	lines := strings.Split(d.text, "\n")
	if line < 1 || line > len(lines) {
		return protocol.Position{Line: uint32(max(0, line-1))}
	}
	units := 0
	for i, r := range []rune(lines[line-1]) {
		if i >= col-1 {
			break
		}
		units += max(1, utf16.RuneLen(r))
	}
	return protocol.Position{Line: uint32(line - 1), Character: uint32(units)}
}

// place is the line and the column in characters, both from 1, at an offset.
func (d *document) place(offset int) (line, col int) {
	before := d.text[:offset]
	line = strings.Count(before, "\n") + 1
	return line, utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1
}

// end is the position after the last character.
func (d *document) end() protocol.Position {
	line, col := d.place(len(d.text))
	return d.position(line, col)
}

// word is the name around an offset.
func (d *document) word(offset int) string {
	start, end := offset, offset
	for start > 0 && isName(d.text[start-1]) {
		start--
	}
	for end < len(d.text) && isName(d.text[end]) {
		end++
	}
	return d.text[start:end]
}

func isName(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
