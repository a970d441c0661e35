package container

import (
	"bytes"
	"errors"
)

// byteOrderMark is U+FEFF in UTF-8.
const byteOrderMark = "\xef\xbb\xbf"

// CheckScript reports what keeps a text whose beginning is given from being executed
// as a script: by the interpreter that its #! line names, or by a shell that is named
// elsewhere. What has a zero byte is no text.
func CheckScript(head []byte, shellNamed bool) error {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	switch {
	case bytes.HasPrefix(head, []byte(byteOrderMark)):
		return errors.New("it begins with a byte-order mark, which becomes part of its first word: save it as UTF-8 without one")
	case bytes.IndexByte(head, 0) >= 0:
		return nil
	case !shellNamed && !bytes.HasPrefix(head, []byte("#!")):
		return errors.New("it has no #! line that says what runs it: begin it with one such as #!/bin/sh, or name the interpreter")
	case whole && bytes.HasSuffix(line, []byte("\r")):
		return errors.New(`its lines end in carriage returns (CR LF), which become part of the interpreter's name and of the last word of every line: convert it with sed -i 's/\r$//'`)
	}
	return nil
}
