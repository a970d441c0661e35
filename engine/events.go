package engine

import (
	"bytes"
	"io"
	"sync"
	"time"

	"b9.build/b9/engine/store"
)

// EventType says what happened.
type EventType int

// The events of a build. Every started step ends with StepDone or StepFailed.
const (
	GraphReady   EventType = iota + 1 // Total: steps in the graph, each of which ends with one of the events below; Nodes
	StepStarted                       // the action runs now; Key, Was
	StepLog                           // Line: one line of the step's output, without its end
	StepProgress                      // Done and Total: bytes
	StepDone                          // Duration
	StepFailed                        // Err, Duration; Changes, if the action ran
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

	Nodes []*Node // of the graph, inputs before what uses them; sources that are read in place, too

	Key, Was store.Digest // the step's key, and that of the newest record of its label; zero for none
	Parts    []store.Part // what the key is made of, with [Config.TellParts]
	Changes  []Change     // of the step's key against that record: the record that would tell is not written
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

// Why a step ran, told afterwards: the event of its start has its key and that of the
// record before ([Event]), and as long as both records are there they tell what
// differs. So nothing is compared while a build runs but for a step that fails, which
// leaves no record.

// Since tells in which parts the key of one record differs from that of an older one;
// ok is false where a record is gone.
func Since(st *store.Store, was, key store.Digest) (changes []Change, ok bool, err error) {
	old, err := st.Record(was)
	if err != nil || old == nil {
		return nil, false, err
	}
	r, err := st.Record(key)
	if err != nil || r == nil {
		return nil, false, err
	}
	return diffRecords(old, r), true, nil
}

// changes tells in which parts the key of s, which failed, differs from that of the
// record of an older one; nil where nothing tells.
func (e *Engine) changes(s *step, was store.Digest) []Change {
	old, err := e.cfg.Store.Record(was)
	if err != nil || old == nil {
		return nil
	}
	parts, long, err := nodeParts(s.node, s.basis)
	if err != nil {
		return nil
	}
	return diffRecords(old, &store.Record{Parts: parts, Texts: long})
}
