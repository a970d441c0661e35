// Package position says where in a text something was written, and what is
// wrong there. It knows no format and reads nothing; build files, documents
// and settings files all use it.
//
//	Position   file:line:col
//	Cursor     the positions of byte offsets in a text
//	Error      a mistake at a position; Position.Errorf makes one
//	Join       one error of the mistakes of a text
package position

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Position is a place in a text. Line and Col count from 1, Col in
// characters; both are 0 where only the file is known.
type Position struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Col  int    `json:"col"`
}

// String renders the position as file:line:col, as the file's name alone
// where Line is 0, and as "-" where there is no file.
func (p Position) String() string {
	switch {
	case p.File == "":
		return "-"
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Cursor finds the positions of byte offsets, in time that grows with the text
// and not with their number. Offsets must not go back.
type Cursor struct {
	text   string
	offset int // at is the position of this byte
	at     Position
}

// NewCursor returns a cursor at the beginning of a text of UTF-8.
func NewCursor(file, text string) Cursor {
	return Cursor{text: text, at: Position{File: file, Line: 1, Col: 1}}
}

// Position returns the position of the byte at an offset. For an offset before
// that of the last call it is the position of the last call.
func (c *Cursor) Position(offset int) Position {
	if offset <= c.offset || offset > len(c.text) {
		return c.at
	}
	gone := c.text[c.offset:offset]
	if lines := strings.Count(gone, "\n"); lines > 0 {
		c.at.Line, c.at.Col = c.at.Line+lines, 1
		gone = gone[strings.LastIndexByte(gone, '\n')+1:]
	}
	c.at.Col += utf8.RuneCountInString(gone)
	c.offset = offset
	return c.at
}

// Offset is that of the last position.
func (c *Cursor) Offset() int { return c.offset }

// Errorf returns a mistake at the position.
func (p Position) Errorf(format string, args ...any) *Error {
	return &Error{Position: p, Msg: fmt.Sprintf(format, args...)}
}

// Error is a mistake at one position of a text.
type Error struct {
	Position
	Msg string
}

// Error renders the mistake as file:line:col: message.
func (e *Error) Error() string { return e.Position.String() + ": " + e.Msg }

// MaxErrors bounds how many mistakes of one text are reported.
const MaxErrors = 20

// Join returns one error that joins all, in order, and counts those beyond
// MaxErrors. It is nil where there is no mistake.
func Join(all []*Error) error {
	if len(all) == 1 {
		return all[0]
	}
	shown := make([]error, 0, min(len(all), MaxErrors+1))
	for _, e := range all[:min(len(all), MaxErrors)] {
		shown = append(shown, e)
	}
	if more := len(all) - MaxErrors; more > 0 {
		shown = append(shown, fmt.Errorf("%s: %d more mistakes", all[MaxErrors].File, more))
	}
	return errors.Join(shown...)
}
