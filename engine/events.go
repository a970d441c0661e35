package engine

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// EventType says what happened.
type EventType int

// The events of a build. Every started step ends with StepDone or StepFailed.
const (
	GraphReady   EventType = iota + 1 // Total: steps in the graph; each of them ends with one of the events below
	StepStarted                       // the action runs now
	StepLog                           // Line: one line of the step's output, without its end
	StepProgress                      // Done and Total: bytes
	StepDone                          // Duration
	StepFailed                        // Err, Duration
	StepCached                        // found in the store
	Notice                            // Line: what b9 itself has to say, of no step
)

// Event is one thing that happened in a build. The receiver is called from
// several goroutines, but never from two at once.
type Event struct {
	Type        EventType
	Node        *Node
	Line        string
	Done, Total int64
	Duration    time.Duration
	Err         error
}

// lineWriter passes what is written on, and tells of every whole line. The two
// output streams of one container may share it.
type lineWriter struct {
	mu   sync.Mutex
	to   io.Writer
	line func(string)
	rest []byte
}

// longestLine bounds what is held of a line that does not end.
const longestLine = 8 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.to.Write(p)
	w.rest = append(w.rest, p[:n]...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole && len(w.rest) < longestLine {
			return n, err
		}
		w.line(string(bytes.TrimRight(line, "\r")))
		w.rest = append(w.rest[:0], rest...)
	}
}

func (w *lineWriter) flush() {
	if len(w.rest) > 0 {
		w.line(string(w.rest))
		w.rest = w.rest[:0]
	}
}
