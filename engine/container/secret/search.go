package secret

import (
	"context"
	"errors"
	"io"
	"math"
	"os"

	"b9.build/b9/engine/internal/sparse"
)

// searchBuffer is how much is read at once, in bytes.
const searchBuffer = 1 << 20

// Search reads a file and calls report for every place that the set finds, in order,
// until that returns an error; [ErrStop] ends the search without one. Holes are not
// read. It takes 1 MiB of memory and twice the longest text. It moves f's own offset.
func (s *Set) Search(ctx context.Context, f *os.File, report func(Found) error) error {
	return s.SearchIn(ctx, f, [][2]int64{{0, math.MaxInt64}}, report)
}

// SearchIn is Search for the texts of which a byte lies in one of the parts [from, to),
// which are in order. Only these are read, and around them what a text can take. What is
// found there beside them is reported, too.
func (s *Set) SearchIn(ctx context.Context, f *os.File, parts [][2]int64, report func(Found) error) error {
	if s.Empty() {
		return nil
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	r := &searcher{set: s, report: report, buf: make([]byte, 0, searchBuffer+s.most)}
	for _, p := range r.widened(parts, st.Size()) {
		if err := r.part(ctx, f, p[0], p[1]); err != nil {
			return stopped(err)
		}
	}
	return nil
}

func stopped(err error) error {
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// searcher looks through bytes that come one after another.
type searcher struct {
	set    *Set
	report func(Found) error
	buf    []byte
	at     int64 // offset of the buffer's first byte
}

// widened are the parts with what texts that lie in them in part can take beside them, below
// size; those that touch each other then are one.
func (r *searcher) widened(parts [][2]int64, size int64) (wide [][2]int64) {
	edge := int64(r.set.most - 1)
	for _, p := range parts {
		from, to := max(p[0]-edge, 0), size
		if p[1] < size-edge {
			to = p[1] + edge
		}
		if n := len(wide); n > 0 && from <= wide[n-1][1] {
			wide[n-1][1] = max(wide[n-1][1], to)
		} else if from < to {
			wide = append(wide, [2]int64{from, to})
		}
	}
	return wide
}

// part looks through the bytes [at, end) of a file.
func (r *searcher) part(ctx context.Context, f *os.File, at, end int64) error {
	for r.at = at; at < end; {
		start, to, err := sparse.Run(f, at, end)
		if err != nil {
			return err
		}
		if err := r.hole(start - at); err != nil {
			return err
		}
		if err := r.read(ctx, f, start, to); err != nil {
			return err
		}
		at = to
	}
	return r.flush(true)
}

// hole passes zeros: as many as a text could have at its end and another at its beginning.
func (r *searcher) hole(n int64) error {
	edge := int64(r.set.most)
	if n <= 2*edge {
		return r.zeros(n)
	}
	if err := r.zeros(edge); err != nil {
		return err
	}
	if err := r.flush(true); err != nil {
		return err
	}
	r.at += n - 2*edge
	return r.zeros(edge)
}

func (r *searcher) zeros(n int64) error {
	for n > 0 {
		part := min(n, int64(cap(r.buf)-len(r.buf)))
		r.buf = append(r.buf, make([]byte, part)...)
		n -= part
		if err := r.full(); err != nil {
			return err
		}
	}
	return nil
}

func (r *searcher) read(ctx context.Context, f io.ReaderAt, start, end int64) error {
	for start < end {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		room := r.buf[len(r.buf):cap(r.buf)]
		n, err := f.ReadAt(room[:min(int64(len(room)), end-start)], start)
		r.buf = r.buf[:len(r.buf)+n]
		start += int64(n)
		switch {
		case errors.Is(err, io.EOF) && start < end:
			return sparse.ErrChanged
		case err != nil && !errors.Is(err, io.EOF):
			return err
		}
		if err := r.full(); err != nil {
			return err
		}
	}
	return nil
}

// full looks through the buffer when there is no room in it.
func (r *searcher) full() error {
	if len(r.buf) < cap(r.buf) {
		return nil
	}
	return r.flush(false)
}

// flush looks through the buffer, and keeps an end in which a text may begin, unless
// nothing follows.
func (r *searcher) flush(last bool) error {
	keep := 0
	if !last {
		keep = r.set.most - 1
	}
	from := 0
	for {
		at, w := r.set.find(r.buf, from)
		if at < 0 || at >= len(r.buf)-keep {
			break
		}
		found := Found{Name: w.name, Form: w.form, At: r.at + int64(at), Len: len(w.text)}
		if err := r.report(found); err != nil {
			return err
		}
		from = at + 1
	}
	done := len(r.buf) - keep
	r.at += int64(done)
	r.buf = r.buf[:copy(r.buf, r.buf[done:])]
	return nil
}

// In reports what the set finds first in a text; ok is false for nothing.
func (s *Set) In(text []byte) (found Found, ok bool) {
	at, w := s.find(text, 0)
	if at < 0 {
		return Found{}, false
	}
	return Found{Name: w.name, Form: w.form, At: int64(at), Len: len(w.text)}, true
}
