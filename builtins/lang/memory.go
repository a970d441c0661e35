package lang

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"
)

// How the memory of evaluation is bounded:
//
// A watch looks every few milliseconds at what the process has grown by. That
// alone would be late for one operation that makes a value of hundreds of
// megabytes, such as x + x: when the watch looks, both are there. So operators,
// functions and methods that make a value as large as those they are given ask for
// the room first (see guardFile for how), where it is a large one. What does not
// fit is refused at its place, before any of it is there.

// largeValue is the size in bytes from which on a value asks for its room.
const largeValue = 1 << 20

// memoryWatch notices when the process has grown by more than a limit.
type memoryWatch struct {
	base, limit uint64
	collecting  chan struct{} // closed when the garbage collection that check started has ended
	large       sync.Mutex    // held while a large value is made
}

func newMemoryWatch(limit uint64) *memoryWatch { return &memoryWatch{limit: limit, base: memoryUsed()} }

// memoryUsed is what the values and stacks of the process occupy, garbage included.
func memoryUsed() uint64 {
	samples := [...]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples[:])
	return samples[0].Value.Uint64() + samples[1].Value.Uint64()
}

// fits reports whether so many bytes more are within the limit.
func (m *memoryWatch) fits(more uint64) bool { return memoryUsed()+more <= m.base+m.limit }

func (m *memoryWatch) exceeded() error {
	return fmt.Errorf("evaluation needs more than %d MiB of memory", m.limit>>20)
}

// check tells whether the limit is exceeded. What exceeds it by less than
// twice is given the chance to be garbage; it does not wait for that, because
// a collection cannot start while one long copy of memory is under way.
func (m *memoryWatch) check() error {
	used := memoryUsed()
	if used <= m.base+m.limit {
		return nil
	}
	if used <= m.base+2*m.limit && (!m.collected() || m.fits(0)) {
		return nil
	}
	return m.exceeded()
}

// collected starts a collection of garbage and reports whether one has ended
// since the limit was first exceeded.
func (m *memoryWatch) collected() bool {
	if m.collecting == nil {
		done := make(chan struct{})
		m.collecting = done
		go func() {
			runtime.GC()
			close(done)
		}()
	}
	select {
	case <-m.collecting:
		m.collecting = nil
		return true
	default:
		return false
	}
}

// room tells whether a value of about so many bytes may be made, if need be when
// garbage is gone.
func (m *memoryWatch) room(bytes int) error {
	if bytes < largeValue || m.fits(uint64(bytes)) {
		return nil
	}
	if runtime.GC(); m.fits(uint64(bytes)) {
		return nil
	}
	return m.exceeded()
}

// making calls a function that makes a value of about so many bytes, if there is
// room. Large values are made one at a time: each is there when the next asks.
func making(thread *starlark.Thread, bytes int, value func() (starlark.Value, error)) (starlark.Value, error) {
	if bytes < largeValue {
		return value()
	}
	m := moduleOf(thread).ws.memory
	m.large.Lock()
	defer m.large.Unlock()
	if err := m.room(bytes); err != nil {
		return nil, err
	}
	return value()
}

// Bytes that an element of a value occupies at least.
const (
	elementBytes = 16 // of a list or tuple
	entryBytes   = 64 // of a dict or set
	madeBytes    = 32 // of a list, with the element made for it
	pairBytes    = 64 // of a list of pairs
)

// bytesOf is what a copy of a value occupies, without what its elements refer to.
func bytesOf(v starlark.Value) int {
	switch v := v.(type) {
	case starlark.String:
		return len(v)
	case starlark.Bytes:
		return len(v)
	case *starlark.List:
		return elementBytes * v.Len()
	case starlark.Tuple:
		return elementBytes * len(v)
	case *starlark.Dict:
		return entryBytes * v.Len()
	case *starlark.Set:
		return entryBytes * v.Len()
	}
	return 0
}

// binary is the operator, whose result is no larger than both values together.
func binary(op syntax.Token) builtinFunc {
	return func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
		x, y := args[0], args[1]
		size := bytesOf(x) + bytesOf(y)
		if size < largeValue { // nearly always
			return starlark.Binary(op, x, y)
		}
		return making(thread, size, func() (starlark.Value, error) { return starlark.Binary(op, x, y) })
	}
}

// grow is the y of x += y and the like. Where x is a list, it may move.
func grow(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, _ []starlark.Tuple) (starlark.Value, error) {
	x, y := args[0], args[1]
	return making(thread, bytesOf(x)+max(bytesOf(y), elementBytes*starlark.Len(y)), func() (starlark.Value, error) { return y, nil })
}

// collecting is a function that makes a list, tuple, dict or set of the elements
// of its arguments; each takes so many bytes. The lock is not held: sorted() calls
// functions of the file.
func collecting(name string, each int) *starlark.Builtin {
	original := universe(name)
	return starlark.NewBuiltin(name, func(thread *starlark.Thread, _ *starlark.Builtin, args starlark.Tuple, kwargs []starlark.Tuple) (starlark.Value, error) {
		bytes := 0
		for _, v := range args {
			bytes += each * max(0, starlark.Len(v))
		}
		if err := moduleOf(thread).ws.memory.room(bytes); err != nil {
			return nil, fmt.Errorf("%s(): %w", name, err)
		}
		return original.CallInternal(thread, args, kwargs)
	})
}

// takesMore reports whether a method adds its arguments to what it is a method of.
func takesMore(method string) bool {
	return method == "extend" || method == "update" || method == "union"
}

// methodBytes is what the call of a method may make or move, at most.
func methodBytes(v starlark.Value, name string, args starlark.Tuple) int {
	size := bytesOf(v)
	switch s, isText := v.(starlark.String); {
	case isText && (name == "split" || name == "rsplit" || name == "splitlines"):
		return madeBytes * fields(string(s), args)
	case isText:
		return 2 * size // another case of a letter may be longer
	}
	if _, isDict := v.(*starlark.Dict); isDict && name == "items" {
		size = pairBytes * starlark.Len(v)
	}
	for _, a := range args {
		if takesMore(name) {
			size += max(bytesOf(a), elementBytes*max(0, starlark.Len(a)))
		}
	}
	return size
}

// fields is how many texts splitting one makes, at most.
func fields(s string, args starlark.Tuple) int {
	if len(args) > 0 {
		if sep, ok := starlark.AsString(args[0]); ok && sep != "" {
			return strings.Count(s, sep) + 1
		}
	}
	return len(s)/2 + 1
}
