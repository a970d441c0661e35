package output

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sync"
	"unicode/utf8"
)

// Schema is what the field "schema" of a document says, such as "build/1". It
// panics for a type that is not in the table.
func Schema(doc any) string {
	schema, ok := schemas()[reflect.TypeOf(doc)]
	if !ok {
		panic(fmt.Sprintf("%T is not in the table of documents", doc))
	}
	return schema
}

var schemas = sync.OnceValue(func() map[reflect.Type]string {
	all := map[reflect.Type]string{}
	for _, d := range Documents() {
		all[reflect.TypeOf(d.Zero)] = d.Schema()
	}
	return all
})

// Schema is the document's name and version.
func (d Document) Schema() string { return fmt.Sprintf("%s/%d", d.Name, d.Version) }

// Print writes one of the [Documents], indented. Its first field is "schema".
func Print(w io.Writer, doc any) error {
	var b bytes.Buffer
	if err := json.Indent(&b, encode(doc), "", "  "); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// PrintLine writes one of the [Documents] on one line, in one write.
func PrintLine(w io.Writer, doc any) error {
	_, err := w.Write(Line(doc))
	return err
}

// PrintForeign writes JSON in a form that another program has laid down, and that is none
// of the [Documents].
func PrintForeign(w io.Writer, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeControls(text), '\n'))
	return err
}

// Line is one of the [Documents] on one line, with its end.
func Line(doc any) []byte { return encode(doc) }

// encode puts the schema before the fields of a document, and escapes what
// encoding/json lets through and terminals obey.
func encode(doc any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		panic(fmt.Sprintf("%+v: %v", doc, err)) // plain values always encode
	}
	text := fmt.Appendf(nil, `{"schema":%q`, Schema(doc))
	fields := b.Bytes()[1:]
	if fields[0] != '}' {
		text = append(text, ',')
	}
	return escapeControls(append(text, fields...))
}

// escapeControls writes DEL and the C1 control characters, U+0080 to U+009F,
// as JSON escapes.
func escapeControls(text []byte) []byte {
	if !bytes.ContainsFunc(text, isControl) {
		return text
	}
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if isControl(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func isControl(r rune) bool { return r >= 0x7f && r <= 0x9f }

// Table aligns the columns of rows, which all have as many.
func Table(rows [][]string) string {
	widths := map[int]int{} // in characters
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text []byte
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			text = fmt.Appendf(text, "%-*s  ", widths[i], cell)
		}
		text = append(append(text, row[len(row)-1]...), '\n')
	}
	return string(text)
}

// Checked passes on what is written to it, for writers that look at no error.
type Checked struct {
	To  io.Writer
	Err error // the first one
}

// Write implements io.Writer.
func (c *Checked) Write(p []byte) (int, error) {
	n, err := c.To.Write(p)
	if c.Err == nil {
		c.Err = err
	}
	return n, err
}

// List is a list as documents have it: empty, where there is none.
func List[T any](all []T) []T {
	if all == nil {
		return []T{}
	}
	return all
}

// Count says how many there are of something: "1 step", "2 steps".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ParseEvent reads the line of an [Event], without the line feed. A line of a later
// version of the document, and what is no event, is an error.
func ParseEvent(line []byte) (e Event, err error) {
	var doc struct {
		Schema string `json:"schema"`
		Event
	}
	if err := json.Unmarshal(line, &doc); err != nil {
		return e, err
	}
	if want := Schema(e); doc.Schema != want {
		return e, fmt.Errorf("it is %q, and not %q", doc.Schema, want)
	}
	return doc.Event, nil
}
