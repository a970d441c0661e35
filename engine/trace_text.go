package engine

import (
	"encoding/binary"
	"errors"
	"time"

	"b9.build/b9/engine/store"
)

// traceTag begins an encoded trace. The number is raised when it changes.
const traceTag = "b9 trace 1"

var errBadTrace = errors.New("not a trace of this b9")

// Encode returns the trace as bytes for [DecodeTrace]: numbers as varints,
// strings and lists after their length.
func (t *Trace) Encode() []byte {
	w := traceWriter(make([]byte, 0, 256+256*len(t.Results)))
	w.text(traceTag)
	w.number(t.Made.UnixNano())
	w.number(int64(t.Steps))
	w.text(t.Printed)
	w.digest(t.Names)
	w.number(int64(len(t.Stamps)))
	for _, s := range t.Stamps {
		w.text(s.Path, s.Sign)
	}
	w.number(int64(len(t.Sources)))
	for _, s := range t.Sources {
		w.text(s.Kind, s.Fields)
		w.digest(s.Digest)
	}
	w.number(int64(len(t.Tools)))
	for _, tool := range t.Tools {
		w.text(tool.Tool.Name, tool.Version)
		w.number(int64(len(tool.Tool.VersionArgs)))
		w.text(tool.Tool.VersionArgs...)
	}
	w.number(int64(len(t.Results)))
	for i := range t.Results {
		w.result(&t.Results[i])
	}
	return w
}

type traceWriter []byte

func (w *traceWriter) number(n int64) { *w = binary.AppendVarint(*w, n) }

func (w *traceWriter) text(list ...string) {
	for _, s := range list {
		*w = append(binary.AppendVarint(*w, int64(len(s))), s...)
	}
}

func (w *traceWriter) digest(d store.Digest) { *w = append(*w, d[:]...) }

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
	t := &Trace{Made: time.Unix(0, r.number()), Steps: int(r.number()), Printed: r.text(), Names: r.digest()}
	t.Stamps = listOf(&r, func() Stamp { return Stamp{Path: r.text(), Sign: r.text()} })
	t.Sources = listOf(&r, func() TracedSource { return TracedSource{r.text(), r.text(), r.digest()} })
	t.Tools = listOf(&r, func() TracedTool {
		tool := TracedTool{Tool: Tool{Name: r.text()}, Version: r.text()}
		tool.Tool.VersionArgs = listOf(&r, r.text)
		return tool
	})
	t.Results = listOf(&r, r.result)
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
	list := make([]T, 0, n)
	for range n {
		if r.bad {
			return nil
		}
		list = append(list, read())
	}
	return list
}
