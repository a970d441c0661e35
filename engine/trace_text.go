package engine

import (
	"encoding/binary"
	"errors"
	"time"

	"b9.build/b9/engine/store"
)

// traceTag begins an encoded trace. The number is raised when it changes.
const traceTag = "b9 trace 3"

var errBadTrace = errors.New("not a trace of this b9")

// Encode returns the trace as bytes for [DecodeTrace]: numbers as varints,
// strings and lists after their length.
func (t *Trace) Encode() []byte {
	size := 256
	for i := range t.Parts {
		size += 256 + 256*len(t.Parts[i].Results)
	}
	w := traceWriter(make([]byte, 0, size))
	w.text(traceTag)
	w.number(t.Made.UnixNano())
	w.digest(t.Names)
	w.shelves(&t.Shelves)
	w.stamps(t.Listed)
	w.texts(t.Files)
	w.number(int64(len(t.Parts)))
	for i := range t.Parts {
		w.part(&t.Parts[i])
	}
	w.number(int64(len(t.Tools)))
	for _, tool := range t.Tools {
		w.text(tool.Tool.Name, tool.Version)
		w.texts(tool.Tool.VersionArgs)
	}
	w.number(int64(len(t.Left)))
	for _, l := range t.Left {
		w.text(l.Label, l.Path, l.Why)
	}
	return w
}

func (w *traceWriter) part(p *TracedPart) {
	w.text(p.Name)
	w.texts(p.Needs)
	w.texts(p.Options)
	w.text(p.Printed)
	w.number(int64(p.Steps))
	w.stamps(p.Stamps)
	w.number(int64(len(p.Sources)))
	for _, s := range p.Sources {
		w.text(s.Kind, s.Fields)
		w.digest(s.Digest)
	}
	w.number(int64(len(p.Results)))
	for i := range p.Results {
		w.result(&p.Results[i])
	}
}

func (w *traceWriter) stamps(list []Stamp) {
	w.number(int64(len(list)))
	for _, s := range list {
		w.text(s.Path, s.Sign)
	}
}

func (w *traceWriter) texts(list []string) {
	w.number(int64(len(list)))
	w.text(list...)
}

type traceWriter []byte

func (w *traceWriter) number(n int64) { *w = binary.AppendVarint(*w, n) }

func (w *traceWriter) text(list ...string) {
	for _, s := range list {
		*w = append(binary.AppendVarint(*w, int64(len(s))), s...)
	}
}

func (w *traceWriter) digest(d store.Digest) { *w = append(*w, d[:]...) }

// shelves writes how many there are, none where nothing is known.
func (w *traceWriter) shelves(all *store.Shelves) {
	if *all == (store.Shelves{}) {
		w.number(0)
		return
	}
	w.number(int64(len(all)))
	for _, sign := range all {
		*w = binary.LittleEndian.AppendUint64(*w, sign)
	}
}

func (w *traceWriter) result(r *Placed) {
	w.text(r.Label, r.Output, r.Path, r.Sign)
	stored := int64(0)
	if r.Stored {
		stored = 1
	}
	for _, n := range []int64{r.Size, int64(r.Object.Kind), r.Object.Size, stored} {
		w.number(n)
	}
	w.digest(r.Object.Digest)
}

// DecodeTrace reads what Encode wrote.
func DecodeTrace(data []byte) (*Trace, error) {
	r := traceReader{rest: string(data)}
	if r.text() != traceTag {
		return nil, errBadTrace
	}
	t := &Trace{Made: time.Unix(0, r.number()), Names: r.digest(), Shelves: r.shelves()}
	t.Listed = listOf(&r, r.stamp)
	t.Files = listOf(&r, r.text)
	t.Parts = listOf(&r, r.part)
	t.Tools = listOf(&r, func() TracedTool {
		tool := TracedTool{Tool: Tool{Name: r.text()}, Version: r.text()}
		tool.Tool.VersionArgs = listOf(&r, r.text)
		return tool
	})
	t.Left = listOf(&r, func() Left { return Left{Label: r.text(), Path: r.text(), Why: r.text()} })
	if r.bad || r.rest != "" {
		return nil, errBadTrace
	}
	return t, nil
}

// traceReader reads values from the front of rest; what it returns after it
// has met something bad means nothing.
type traceReader struct {
	rest string
	bad  bool
}

func (r *traceReader) number() int64 {
	n, size := binary.Varint([]byte(r.rest[:min(len(r.rest), binary.MaxVarintLen64)]))
	if size <= 0 {
		r.bad, r.rest = true, ""
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *traceReader) text() string { return r.next(r.number()) }

func (r *traceReader) next(n int64) string {
	if n < 0 || n > int64(len(r.rest)) {
		r.bad, r.rest = true, ""
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

func (r *traceReader) digest() (d store.Digest) {
	copy(d[:], r.next(int64(len(d))))
	return d
}

func (r *traceReader) shelves() (all store.Shelves) {
	switch r.number() {
	case 0:
	case int64(len(all)):
		for i := range all {
			if b := r.next(8); !r.bad {
				all[i] = binary.LittleEndian.Uint64([]byte(b))
			}
		}
	default:
		r.bad, r.rest = true, ""
	}
	return all
}

func (r *traceReader) stamp() Stamp { return Stamp{Path: r.text(), Sign: r.text()} }

func (r *traceReader) part() TracedPart {
	p := TracedPart{Name: r.text(), Needs: listOf(r, r.text), Options: listOf(r, r.text), Printed: r.text(), Steps: int(r.number())}
	p.Stamps = listOf(r, r.stamp)
	p.Sources = listOf(r, func() TracedSource { return TracedSource{r.text(), r.text(), r.digest()} })
	p.Results = listOf(r, r.result)
	return p
}

func (r *traceReader) result() Placed {
	t := Placed{Label: r.text(), Output: r.text(), Path: r.text(), Sign: r.text(), Size: r.number()}
	t.Object.Kind, t.Object.Size = store.Kind(r.number()), r.number()
	t.Stored = r.number() == 1
	t.Object.Digest = r.digest()
	return t
}

// listOf reads a length and so many values. Each takes a byte at least.
func listOf[T any](r *traceReader, read func() T) []T {
	n := r.number()
	if n < 0 || n > int64(len(r.rest)) {
		r.bad, r.rest = true, ""
		return nil
	}
	if n == 0 {
		return nil
	}
	list := make([]T, 0, n)
	for range n {
		if r.bad {
			return nil
		}
		list = append(list, read())
	}
	return list
}
