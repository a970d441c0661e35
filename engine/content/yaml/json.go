package yaml

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"

	"b9.build/b9/engine/internal/position"
)

// ParseJSON reads one JSON document (RFC 8259). Numbers without fraction and
// exponent are ints; of equal keys the last counts, with a warning. Errors
// are *position.Error.
func ParseJSON(file, text string) (*Document, error) {
	if !utf8.ValidString(text) {
		return nil, position.Position{File: file, Line: 1, Col: 1}.Errorf("the text is not UTF-8")
	}
	r := jsonReader{text: text, dec: json.NewDecoder(strings.NewReader(text)), at: position.NewCursor(file, text)}
	r.dec.UseNumber()
	root, err := r.value(0)
	if err != nil {
		return nil, err
	}
	at := r.next()
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, at.Errorf("there is more behind the end of the document")
	}
	return &Document{Root: root, Warnings: r.warnings}, nil
}

// jsonReader follows the decoder's tokens and their positions.
type jsonReader struct {
	text     string
	dec      *json.Decoder
	at       position.Cursor
	warnings []Finding
}

// next is the position of the next token.
func (r *jsonReader) next() position.Position {
	end := int(r.dec.InputOffset())
	for end < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[end]) >= 0 {
		end++
	}
	return r.at.Position(end)
}

// token reads a token; an error gets the position where it was found.
func (r *jsonReader) token() (json.Token, error) {
	at := r.next()
	tok, err := r.dec.Token()
	if err == nil {
		return tok, nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && int(syntax.Offset) > r.at.Offset() {
		at = r.at.Position(min(int(syntax.Offset)-1, len(r.text)))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, r.at.Position(len(r.text)).Errorf("the document ends too early")
	}
	return nil, at.Errorf("%v", err)
}

func (r *jsonReader) value(depth int) (*Node, error) {
	at := r.next()
	if depth > maxDepth {
		return nil, at.Errorf("nested more than %d deep", maxDepth)
	}
	tok, err := r.token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Number:
		n, err := jsonNumber(string(v))
		if err != nil {
			return nil, at.Errorf("%v", err)
		}
		return &Node{Value: n, At: at}, nil
	case json.Delim:
		if v == '[' {
			return r.list(at, depth)
		}
		return r.object(at, depth)
	}
	return &Node{Value: tok, At: at}, nil
}

func (r *jsonReader) list(at position.Position, depth int) (*Node, error) {
	list := []*Node{}
	for r.dec.More() {
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := r.token()
	return &Node{Value: list, At: at}, err
}

func (r *jsonReader) object(at position.Position, depth int) (*Node, error) {
	s := NewFieldSet(8)
	for r.dec.More() {
		keyAt := r.next()
		key, err := r.token()
		if err != nil {
			return nil, err
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		if old := s.Set(Field{&Node{Value: key, At: keyAt}, v}); old != nil {
			r.warnings = append(r.warnings, Finding{At: keyAt, Name: duplicateKey, Warning: true,
				Msg: fmt.Sprintf("the key %q is there already at %s: only this last one counts", key, old.Value.At)})
		}
	}
	_, err := r.token()
	return &Node{Value: s.Fields, At: at}, err
}

func jsonNumber(s string) (any, error) {
	if strings.ContainsAny(s, ".eE") {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("%s is out of range", s)
		}
		return f, nil
	}
	n, ok := new(big.Int).SetString(s, 10)
	if !ok || len(s) > maxDigits {
		return nil, fmt.Errorf("%.40s is out of range", s)
	}
	return signed(n, false), nil
}

// JSON renders the tree as JSON indented by two spaces, in the order of its
// keys. Dates become text, keys that are none become text; NaN, infinities
// and binary data are errors, which are *position.Error.
func (n *Node) JSON() (string, error) {
	w := jsonWriter{left: MaxNodes}
	if err := w.value(n); err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, w.b.Bytes(), "", "  "); err != nil {
		return "", fmt.Errorf("write JSON: %w", err)
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// jsonWriter writes JSON on one line.
type jsonWriter struct {
	b    bytes.Buffer
	left int
}

func (w *jsonWriter) value(n *Node) error {
	if w.left--; w.left < 0 {
		return n.At.Errorf("the document has more than %d values", MaxNodes)
	}
	switch v := n.Value.(type) {
	case nil:
		w.b.WriteString("null")
	case bool, int64, *big.Int:
		fmt.Fprint(&w.b, v)
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return n.At.Errorf("%s can't be written as JSON", formatFloat(v))
		}
		w.b.WriteString(formatFloat(v))
	case string:
		return w.text(v)
	case Time:
		return w.text(string(v))
	case Bytes:
		return n.At.Errorf("binary data can't be written as JSON")
	case []*Node:
		return w.items('[', ']', len(v), func(i int) error { return w.value(v[i]) })
	case Fields:
		return w.object(v)
	}
	return nil
}

func (w *jsonWriter) text(s string) error {
	enc := json.NewEncoder(&w.b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	w.b.Truncate(w.b.Len() - 1)
	return nil
}

func (w *jsonWriter) object(fields Fields) error {
	seen := map[string]bool{}
	return w.items('{', '}', len(fields), func(i int) error {
		f := fields[i]
		key := keyText(f.Key)
		if seen[key] {
			return f.Key.At.Errorf("two keys would both be written as %q", key)
		}
		seen[key] = true
		if err := w.text(key); err != nil {
			return err
		}
		w.b.WriteByte(':')
		return w.value(f.Value)
	})
}

// items writes elements with commas between them, in brackets.
func (w *jsonWriter) items(open, end byte, count int, write func(i int) error) error {
	w.b.WriteByte(open)
	for i := range count {
		if i > 0 {
			w.b.WriteByte(',')
		}
		if err := write(i); err != nil {
			return err
		}
	}
	w.b.WriteByte(end)
	return nil
}
