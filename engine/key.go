package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/store"
)

// cacheVersion is part of every key. Raise it to forget all records.
const cacheVersion = "b9 cache 1"

// partSink receives the parts of a key in order: a name, a tag for the type
// of the value, and the value in its canonical form.
type partSink interface {
	part(name []byte, tag byte, value []byte)
}

// keyText gathers the parts to be digested. Every name and value is preceded
// by its length, so no two different lists of parts give the same text.
type keyText []byte

func (k *keyText) part(name []byte, tag byte, value []byte) {
	b := binary.AppendUvarint(*k, uint64(len(name)))
	b = append(b, name...)
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	*k = append(b, value...)
}

// keyParts collects the parts for a record. A long value is shortened and
// followed by its digest: the record is there to say what changed, and the
// key was made of the whole.
type keyParts struct {
	parts []store.Part
	long  map[string]string // the long values, whole
}

const longPart = 2048

func (k *keyParts) part(name []byte, tag byte, value []byte) {
	text := string(value)
	if len(value) > longPart {
		if k.long == nil {
			k.long = map[string]string{}
		}
		k.long[string(name)] = text
		text = fmt.Sprintf("%s… (%d bytes, b3:%x)", value[:longPart/2], len(value), blake3.Sum256(value))
	}
	k.parts = append(k.parts, store.Part{Name: string(name), Value: text})
}

// keyInput is everything that a key is made of beside the node itself.
type keyInput struct {
	epoch       time.Time // of the build
	fingerprint *store.Digest
	tools       []toolVersion
	inputs      []*Artifact // in the order of the node's inputs; nil for what is not known yet
}

// keyMaker computes one key after another in the same buffers. It is for one
// goroutine; the zero value is ready.
type keyMaker struct {
	text   keyText
	writer keyWriter
}

func (m *keyMaker) key(n *Node, in keyInput) (store.Digest, error) {
	if slices.Contains(in.inputs, nil) {
		return store.Digest{}, fmt.Errorf("%s: it has no key before its inputs are known", n.Label())
	}
	m.text, m.writer.sink = m.text[:0], &m.text
	if err := m.writer.node(n, in); err != nil {
		return store.Digest{}, err
	}
	return store.Digest(blake3.Sum256(m.text)), nil
}

// nodeParts lists what the key of n is made of; inputs that are not known are left out.
// Long values are there whole, too, by the names of their parts.
func nodeParts(n *Node, in keyInput) (parts []store.Part, long map[string]string, err error) {
	var k keyParts
	w := keyWriter{sink: &k}
	err = w.node(n, in)
	return k.parts, k.long, err
}

// keyWriter walks a node and hands the parts of its key to the sink; the
// leaves of its action's value each under a path such as Env.PATH or
// Script[2].
type keyWriter struct {
	sink partSink
	path []byte
	buf  []byte
}

func (w *keyWriter) node(n *Node, in keyInput) error {
	w.text("b9", "", cacheVersion)
	w.text("kind", "", n.action.Kind())
	if at := in.epoch.UnixNano(); !in.epoch.IsZero() && at != 0 {
		w.text("time", "", strconv.FormatInt(at, 10))
	}
	for _, out := range n.opts.Outputs {
		w.text("output ", out.Name, out.Kind.String())
	}
	if in.fingerprint != nil {
		w.named("fingerprint", "", 's', in.fingerprint.Append(w.buf[:0]))
	}
	for _, t := range in.tools {
		w.text("tool ", t.name, t.version)
	}
	for i, a := range in.inputs {
		if a != nil {
			w.input(n.opts.Inputs[i], a)
		}
	}
	if err := w.value(reflect.ValueOf(n.action)); err != nil {
		return fmt.Errorf("%s: key of %T: %w", n.Label(), n.action, err)
	}
	return nil
}

// input hands over what an input counts by: the digest of its content or, under
// another tag, the key of its step and which of that step's outputs it is.
func (w *keyWriter) input(in Input, a *Artifact) {
	value := append(append(w.buf[:0], a.object.Kind.String()...), ' ')
	if !in.Ref.byKey() {
		w.named("input ", in.Role, 's', a.object.Digest.Append(value))
		return
	}
	value = append(a.key.Append(value), ' ')
	w.named("input ", in.Role, 'k', append(value, in.Ref.Output...))
}

// text hands over a part whose name is in two pieces.
func (w *keyWriter) text(what, name, value string) {
	w.named(what, name, 's', append(w.buf[:0], value...))
}

// named does so with a value that lies in w.buf.
func (w *keyWriter) named(what, name string, tag byte, value []byte) {
	w.path = append(append(w.path[:0], what...), name...)
	w.leaf(tag, value)
	w.path = w.path[:0]
}

func (w *keyWriter) leaf(tag byte, value []byte) {
	w.sink.part(w.path, tag, value)
	w.buf = value[:0]
}

// value writes v. Types whose values have no canonical form (functions,
// channels, interfaces, unexported fields) are errors: a key must not forget
// a part silently.
func (w *keyWriter) value(v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		w.leaf('s', append(w.buf[:0], v.String()...))
	case reflect.Bool:
		w.leaf('b', strconv.AppendBool(w.buf[:0], v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		w.leaf('i', strconv.AppendInt(w.buf[:0], v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		w.leaf('u', strconv.AppendUint(w.buf[:0], v.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		w.leaf('f', strconv.AppendFloat(w.buf[:0], v.Float(), 'x', -1, 64))
	case reflect.Pointer:
		if v.IsNil() {
			w.leaf('n', w.buf[:0])
			return nil
		}
		return w.value(v.Elem())
	case reflect.Slice, reflect.Array:
		return w.list(v)
	case reflect.Map:
		return w.dict(v)
	case reflect.Struct:
		return w.fields(v)
	default:
		return fmt.Errorf("%s: a %s can't be part of a key", w.path, v.Type())
	}
	return nil
}

func (w *keyWriter) list(v reflect.Value) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		raw := w.buf[:0]
		for i := range v.Len() {
			raw = append(raw, byte(v.Index(i).Uint()))
		}
		w.leaf('x', raw)
		return nil
	}
	w.leaf('l', strconv.AppendInt(w.buf[:0], int64(v.Len()), 10))
	base := len(w.path)
	for i := range v.Len() {
		w.path = append(strconv.AppendInt(append(w.path[:base], '['), int64(i), 10), ']')
		if err := w.value(v.Index(i)); err != nil {
			return err
		}
	}
	w.path = w.path[:base]
	return nil
}

func (w *keyWriter) dict(v reflect.Value) error {
	if v.Type().Key().Kind() != reflect.String {
		return fmt.Errorf("%s: a map in a key needs string keys", w.path)
	}
	w.leaf('m', strconv.AppendInt(w.buf[:0], int64(v.Len()), 10))
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	base := len(w.path)
	for _, key := range keys {
		w.path = append(append(append(w.path[:base], '['), strconv.Quote(key.String())...), ']')
		if err := w.value(v.MapIndex(key)); err != nil {
			return err
		}
	}
	w.path = w.path[:base]
	return nil
}

func (w *keyWriter) fields(v reflect.Value) error {
	t, base := v.Type(), len(w.path)
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("key") == "-" {
			continue
		}
		if !f.IsExported() {
			return fmt.Errorf("%s.%s is not exported and not tagged `key:\"-\"`", t, f.Name)
		}
		if base > 0 {
			w.path = append(w.path[:base], '.')
		}
		w.path = append(w.path, f.Name...)
		if err := w.value(v.Field(i)); err != nil {
			return err
		}
		w.path = w.path[:base]
	}
	return nil
}

// Shapes compares the steps of two graphs, such as those of a workspace before and
// after a change, without looking at the world: two steps of one shape have the same
// key on the same machine at the same time, if sources of one shape have the same content.
// A Shapes is for one graph, and for one goroutine.
type Shapes struct {
	// Source says what a source stands for, such as its path. Where ok is false, its
	// parameters say it.
	Source func(Action) (shape string, ok bool, err error)
	// From, if it is not empty, is replaced by To wherever it stands in a parameter: two
	// directories that have the same workspace.
	From, To string

	known map[*Node]store.Digest
}

// Of is the shape of a step.
func (s *Shapes) Of(n *Node) (store.Digest, error) {
	if d, ok := s.known[n]; ok {
		return d, nil
	}
	text := &shapeText{from: []byte(s.From), to: []byte(s.To)}
	w := keyWriter{sink: text}
	if err := w.node(n, keyInput{}); err != nil {
		return store.Digest{}, err
	}
	if _, ok := n.Action().(Source); ok && s.Source != nil {
		shape, ok, err := s.Source(n.Action())
		if err != nil {
			return store.Digest{}, err
		}
		if ok {
			w.text("source", "", shape)
		}
	}
	for _, in := range n.Inputs() {
		d, err := s.Of(in.Ref.Node)
		if err != nil {
			return store.Digest{}, err
		}
		w.text("input ", in.Role, d.String()+" "+in.Ref.Output)
	}
	if s.known == nil {
		s.known = map[*Node]store.Digest{}
	}
	s.known[n] = store.Digest(blake3.Sum256(text.keyText))
	return s.known[n], nil
}

// shapeText gathers the parts with one directory in place of another.
type shapeText struct {
	keyText
	from, to []byte
}

func (t *shapeText) part(name []byte, tag byte, value []byte) {
	if len(t.from) > 0 {
		value = bytes.ReplaceAll(value, t.from, t.to)
	}
	t.keyText.part(name, tag, value)
}
