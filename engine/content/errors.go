package content

import (
	"errors"
	"fmt"
)

// Error is a mistake at one place of a document. Line and Col count from 1;
// Col counts characters, not bytes.
type Error struct {
	File      string
	Line, Col int
	Msg       string
}

// Error renders the mistake as file:line:col: message.
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// maxErrors bounds how many mistakes of one document are reported.
const maxErrors = 20

// joinErrors makes one error of many, in order, or nil of none.
func joinErrors(errs []*Error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	all := make([]error, 0, len(errs))
	for i, e := range errs {
		if i == maxErrors {
			all = append(all, fmt.Errorf("%s: %d more mistakes", e.File, len(errs)-i))
			break
		}
		all = append(all, e)
	}
	return errors.Join(all...)
}
