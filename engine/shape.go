package engine

import (
	"bytes"

	"github.com/zeebo/blake3"

	"b9.build/b9/engine/store"
)

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
