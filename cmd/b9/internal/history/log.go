package history

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/timeline"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// How a log is written
//
// A build with nothing to do is the most frequent one, and must stay as quick as it is:
// it leaves one line in a file that all such builds share. So the file of a build is made
// when it has something to tell that counts do not: a step that ran or failed, a message,
// an error, or a second that went by. What happened before waits in memory.
//
// Lines are collected and written every half second, and at the end. Who is killed loses
// what came since. A line is whole, or it is the last.
//
// The file is locked while its build runs, by the process alone: so readers know which
// builds were killed.

const (
	flushInterval = 500 * time.Millisecond
	openAfter     = 2 // flushes that a build gets along without a file
)

// Log is the event log of one build that runs. Its methods may be called by several
// goroutines. A nil Log takes everything and keeps nothing.
type Log struct {
	dir  Dir
	warn func(error)

	mu      sync.Mutex
	begun   output.Begun
	at      time.Time // of begun
	also    io.Writer // nil for none
	file    *os.File  // nil before there is something to tell, and when it can't be written
	telling bool
	broken  bool   // the file can't be written
	alsoErr error  // why also can't be written
	headed  bool   // begun is among the lines
	lines   []byte // that are to be written
	written int64  // bytes
	cached  []found
	steps   map[*engine.Node]*stepLines
	paths   timeline.Paths[*engine.Node] // which steps are behind one that ran
	failed  int
	flushes int

	stop, stopped chan struct{}
}

// found is a step that was cached. What has nothing else to tell is never encoded.
type found struct {
	node  *engine.Node
	key   store.Digest // zero where the step's record has it
	parts []store.Part
	at    time.Time
}

// Begin begins the log of a build, of which ID and Process are chosen. What hinders the
// log hinders no build: warn is told, once. The lines go to also, too, unless that is nil.
func (d Dir) Begin(b output.Begun, also io.Writer, warn func(error)) *Log {
	b.Process = os.Getpid()
	l := &Log{dir: d, warn: warn, begun: b, at: time.Now(), also: also, telling: also != nil, steps: map[*engine.Node]*stepLines{}, stop: make(chan struct{}), stopped: make(chan struct{})}
	go l.write()
	return l
}

// write writes what was collected now and then, until the log ends.
func (l *Log) write() {
	defer close(l.stopped)
	t := time.NewTicker(flushInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			l.mu.Lock()
			l.flushes++
			l.telling = l.telling || l.flushes >= openAfter
			l.flush()
			l.mu.Unlock()
		case <-l.stop:
			return
		}
	}
}

// Event notes what happened in the build.
func (l *Log) Event(e engine.Event) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch now := time.Now(); e.Type {
	case engine.StepProgress: // of use while it lasts
	case engine.StepCached:
		l.paths.Cached(e.Node, e.Node.Needs)
		f := found{node: e.Node, parts: e.Parts, at: now}
		if f.parts != nil {
			f.key = e.Key
		}
		l.cached = append(l.cached, f)
	case engine.StepLog:
		l.output(e, now)
	default:
		l.telling = l.telling || e.Type != engine.GraphReady
		if e.Type == engine.StepDone || e.Type == engine.StepFailed {
			l.endOutput(e.Node, now)
			l.paths.Ran(e.Node, e.Duration, e.Node.Needs())
		}
		if failed := (*engine.StepError)(nil); errors.As(e.Err, &failed) && !failed.Stopped { // else it was interrupted
			l.failed++
		}
		l.add(output.EventOf(e, now))
	}
}

// add appends a line, after what was cached before.
func (l *Log) add(e output.Event) {
	for _, f := range l.cached {
		event := output.EventOf(engine.Event{Type: engine.StepCached, Node: f.node, Key: f.key, Parts: f.parts}, f.at)
		event.Place = nil
		if l.paths.Behind(f.node) {
			event.Inputs = output.InputsOf(f.node)
		}
		l.lines = append(l.lines, output.Line(event)...)
	}
	l.cached = l.cached[:0]
	if e.Event != "" {
		l.lines = append(l.lines, output.Line(e)...)
	}
}

// flush writes the lines where they belong.
func (l *Log) flush() {
	if !l.telling {
		return
	}
	l.add(output.Event{})
	if !l.headed {
		l.headed = true
		l.open()
		l.lines = append(output.Line(output.Event{Time: l.at, Event: "begun", Build: &l.begun}), l.lines...)
	}
	l.written += int64(len(l.lines))
	if l.also != nil && l.alsoErr == nil {
		_, l.alsoErr = l.also.Write(l.lines)
	}
	if l.file != nil {
		if _, err := l.file.Write(l.lines); err != nil {
			l.giveUp(err)
		}
	}
	l.lines = l.lines[:0]
}

// open makes the file, which gives the build its ID, and makes room for it.
func (l *Log) open() {
	for at := l.at.UTC(); ; at = at.Add(time.Millisecond) {
		l.begun.ID = at.Format(idForm)
		f, err := l.dir.create(l.begun.ID+extension, os.O_EXCL)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			l.file = f
			err = errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), l.dir.prune())
		}
		if err != nil {
			l.giveUp(err)
		}
		return
	}
}

// giveUp goes on without the file.
func (l *Log) giveUp(err error) {
	if l.broken {
		return
	}
	l.broken = true
	l.warn(err)
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// End ends the log. The error is that of what the lines go to beside the store.
func (l *Log) End(e output.Ending) error {
	if l == nil {
		return nil
	}
	close(l.stop)
	<-l.stopped
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Failed = l.failed
	finished := output.Finished(e, time.Now())
	l.telling = l.telling || finished.Error != ""
	if !l.telling {
		l.begun.ID = l.at.UTC().Format(idForm)
		if err := l.dir.unchanged(l.begun, finished); err != nil {
			l.warn(err)
		}
		return nil
	}
	l.add(finished)
	l.flush()
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			l.warn(err)
		}
	}
	return l.alsoErr
}

// Unchanged notes a build that had nothing to do. It is one write, and no more.
func (d Dir) Unchanged(b output.Begun, started time.Time, cached int, also io.Writer) error {
	b.Process, b.ID = os.Getpid(), started.UTC().Format(idForm)
	finished := output.Finished(output.Ending{Cached: cached, Took: time.Since(started)}, time.Now())
	if also != nil {
		begun := output.Line(output.Event{Time: started, Event: "begun", Build: &b})
		if _, err := also.Write(append(begun, output.Line(finished)...)); err != nil {
			return err
		}
	}
	return d.unchanged(b, finished)
}

func (d Dir) unchanged(b output.Begun, finished output.Event) error {
	finished.Build = &b
	f, err := d.create(unchangedFile, os.O_APPEND)
	if err != nil {
		return err
	}
	_, err = f.Write(output.Line(finished))
	if st, serr := f.Stat(); serr == nil && st.Size() > maxUnchanged {
		// Who has it open meanwhile appends to it under its new name.
		err = errors.Join(err, os.Rename(d.path(unchangedFile), d.path(unchangedFile+older)))
	}
	return errors.Join(err, f.Close())
}

// create opens a file of the directory, which is made if it is not there.
func (d Dir) create(name string, flags int) (*os.File, error) {
	if flags&os.O_EXCL != 0 {
		flags |= os.O_CREATE
	}
	f, err := store.OpenFile(d.path(name), flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := store.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	return store.OpenFile(d.path(name), flags, 0o600)
}
