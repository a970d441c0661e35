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

	"b9.build/b9/engine/internal/charset"
	"b9.build/b9/engine/internal/position"
)

// ParseJSON reads one JSON document (RFC 8259). Numbers without fraction and
// exponent are ints; of equal keys the last counts, with a warning. Errors
// are *position.Error.
func ParseJSON(file, text string) (*Document, error) {
	if err := charset.Check(file, text); err != nil {
		return nil, err
	}
	r := jsonReader{text: text, dec: json.NewDecoder(strings.NewReader(text)), at: position.NewCursor(file, text)}
	r.dec.UseNumber()
	root := r.value(0)
	at := r.next()
	if _, err := r.dec.Token(); !errors.Is(err, io.EOF) {
		r.fail(at, "there is more behind the end of the document")
	}
	if r.err != nil {
		return nil, r.err
	}
	return &Document{Root: root, Warnings: r.warnings}, nil
}

// jsonReader follows the decoder's tokens and their positions. After a mistake
// it makes nothing that counts.
type jsonReader struct {
	text     string
	dec      *json.Decoder
	at       position.Cursor
	warnings []Finding
	err      *position.Error // the first mistake
}

func (r *jsonReader) fail(at position.Position, format string, args ...any) {
	if r.err == nil {
		r.err = at.Errorf(format, args...)
	}
}

// next is the position of the next token.
func (r *jsonReader) next() position.Position {
	end := int(r.dec.InputOffset())
	for end < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[end]) >= 0 {
		end++
	}
	return r.at.Position(end)
}

// token reads a token; a mistake gets the position where it was found.
func (r *jsonReader) token() json.Token {
	at := r.next()
	tok, err := r.dec.Token()
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) && int(syntax.Offset) > r.at.Offset() {
		at = r.at.Position(min(int(syntax.Offset)-1, len(r.text)))
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		r.fail(r.at.Position(len(r.text)), "the document ends too early")
	default:
		r.fail(at, "%v", err)
	}
	return tok
}

func (r *jsonReader) value(depth int) *Node {
	n := &Node{At: r.next()}
	if depth > maxDepth {
		r.fail(n.At, "nested more than %d deep", maxDepth)
		return n
	}
	switch v := r.token().(type) {
	case json.Number:
		var err error
		if n.Value, err = jsonNumber(string(v)); err != nil {
			r.fail(n.At, "%v", err)
		}
	case json.Delim:
		if v == '[' {
			n.Value = r.list(depth)
		} else {
			n.Value = r.object(depth)
		}
	default:
		n.Value = v
	}
	return n
}

func (r *jsonReader) list(depth int) []*Node {
	list := []*Node{}
	for r.err == nil && r.dec.More() {
		list = append(list, r.value(depth+1))
	}
	r.token()
	return list
}

func (r *jsonReader) object(depth int) Fields {
	s := NewFieldSet(8)
	for r.err == nil && r.dec.More() {
		key := &Node{At: r.next(), Value: r.token()}
		if old := s.Set(Field{key, r.value(depth + 1)}); old != nil {
			r.warnings = append(r.warnings, warning(key, duplicateKey, "the key %q is there already at %s: only this last one counts", key.Value, old.Value.At))
		}
	}
	r.token()
	return s.Fields
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
	w := jsonWriter{writer{left: MaxNodes}}
	if w.value(n); w.err != nil {
		return "", w.err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, w.b.Bytes(), "", "  "); err != nil {
		return "", fmt.Errorf("write JSON: %w", err)
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// jsonWriter writes JSON on one line.
type jsonWriter struct{ writer }

func (w *jsonWriter) value(n *Node) {
	if !w.visit(n) {
		return
	}
	switch v := n.Value.(type) {
	case nil, bool, int64, *big.Int:
		w.b.WriteString(keyText(n))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			w.fail(n.At.Errorf("%s can't be written as JSON", formatFloat(v)))
		}
		w.b.WriteString(formatFloat(v))
	case string, Time:
		w.text(keyText(n))
	case Bytes:
		w.fail(n.At.Errorf("binary data can't be written as JSON"))
	case []*Node:
		w.items("[", ",", "]", len(v), func(i int) { w.value(v[i]) })
	case Fields:
		keys := w.keys(v)
		w.items("{", ",", "}", len(v), func(i int) {
			w.text(keys[i])
			w.b.WriteByte(':')
			w.value(v[i].Value)
		})
	}
}

func (w *jsonWriter) text(s string) {
	enc := json.NewEncoder(&w.b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		w.fail(fmt.Errorf("write JSON: %w", err))
	}
	w.b.Truncate(w.b.Len() - 1)
}
