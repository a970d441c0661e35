// Package display shows a build to a person on a terminal, as plain lines, or as
// JSON events to a program. It hides the terminal: its size, its control functions,
// and how often it is drawn. It knows events, not what is built.
//
//	Display    the events of one build
//	Console    standard error, which a display, a transfer's line and messages share
//	Clean      makes what an untrusted program printed safe to show
package display

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"b9.build/b9/engine"
	"b9.build/b9/engine/size"
)

// Options say how a build is shown.
type Options struct {
	Mode      string // auto, live, plain, json or quiet; "" is auto
	Verbosity string // quiet, normal, verbose or debug; "" is normal
	// Took tells what each step took the last time, by label; nil where nobody knows. It is
	// called once, when a build has run for a while that is shown live.
	Took func() map[string]time.Duration
	Jobs int // steps that may run at once; for what is foretold

	Flags string // that b9 was called with and that commands it suggests need, with a space behind

	// What follows is for tests; the zero value means the real thing.
	Width  func() (cols, rows int)
	Now    func() time.Time
	Getenv func(string) string
	Ticks  <-chan time.Time // when to draw a frame, or to say what runs
}

// modes are the values of Mode.
var modes = [...]string{"auto", "live", "plain", "json", "quiet"}

// sayInterval is the time after which lines say again what runs, where there is no region.
const sayInterval = 30 * time.Second

// frameInterval is the time between two frames, at the least.
const frameInterval = 100 * time.Millisecond

// levels are the values of Verbosity.
var levels = [...]string{"quiet", "normal", "verbose", "debug"}

// The levels of verbosity, each with all that the one before shows.
const (
	levelQuiet   = iota // failures
	levelNormal         // every step that ran
	levelVerbose        // the output of every step, and cached steps
	levelDebug          // times and call stacks
)

// Display shows the events of a build to a person, or as JSON to a program.
// With a terminal it keeps a region at the bottom that says what is running;
// everything else it prints is lines above that.
//
// Its methods may be called by several goroutines.
type Display struct {
	now   func() time.Time
	level int
	flags string
	took  func() map[string]time.Duration // not asked yet; nil when it was
	jobs  int

	mu       sync.Mutex
	w        io.Writer
	json     *events // in json mode, else nil
	screen   *screen // in live mode, else nil
	progress progress
	failures []failure
	ended    bool
	paused   int // how often, more than resumed

	stop    chan struct{} // ends what happens at ticks; nil when nothing does
	stopped chan struct{}
}

// Summary is how a build ended.
type Summary struct {
	Executed, Cached int
	Err              error // of the build
	Interrupted      bool
	Took             time.Duration
	Notes            []string // what else there is to say, before the failures
}

// New returns a display that writes to w. It draws in the background
// until Finish or Close.
func New(w io.Writer, o Options) *Display {
	o.setDefaults(w)
	d := &Display{now: o.Now, w: w, level: o.level(), flags: o.Flags, took: o.Took, jobs: o.Jobs}
	d.progress.start = d.now()
	switch o.mode(IsTerminal(w)) {
	case "json":
		d.json = &events{w: w, now: d.now, progress: map[*engine.Node]time.Time{}}
	case "live":
		if o.Took != nil {
			d.progress.over = map[*engine.Node]bool{}
		}
		d.screen = &screen{w: w, size: o.Width, color: o.Getenv("NO_COLOR") == ""}
		d.every(frameInterval, o.Ticks, d.frame)
	default:
		if d.level >= levelNormal {
			d.every(sayInterval, o.Ticks, d.sayRunning)
		}
	}
	return d
}

// every calls do at every tick, by default so often, until Close.
func (d *Display) every(interval time.Duration, ticks <-chan time.Time, do func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	d.stop, d.stopped = stop, stopped
	go func() {
		defer close(stopped)
		if ticks == nil {
			t := time.NewTicker(interval)
			defer t.Stop()
			ticks = t.C
		}
		for {
			select {
			case <-ticks:
				do()
			case <-stop:
				return
			}
		}
	}()
}

// sayRunning prints a line for each step that runs for a while already.
func (d *Display) sayRunning() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused > 0 {
		return
	}
	for _, line := range d.progress.long(d.now()) {
		d.print(d.stamp(line)...)
	}
}

func (o *Options) setDefaults(w io.Writer) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Width == nil {
		o.Width = TerminalSize(w)
	}
}

func (o *Options) level() int {
	if o.Mode == "quiet" {
		return levelQuiet
	}
	if level := slices.Index(levels[:], o.Verbosity); level >= 0 {
		return level
	}
	return levelNormal
}

// mode decides between live, plain and json. What runs for a CI has lines that nobody draws
// anew, though some give their jobs a terminal.
func (o *Options) mode(terminal bool) string {
	t, ci := o.Getenv("TERM"), o.Getenv("CI")
	switch {
	case o.Mode == "json":
		return "json"
	case o.Mode == "plain" || o.level() == levelQuiet || t == "" || t == "dumb":
		return "plain"
	case o.Mode == "live" || terminal && (ci == "" || ci == "false" || ci == "0"):
		return "live"
	}
	return "plain"
}

func (d *Display) frame() {
	d.foretell()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.paused > 0 {
		return
	}
	_, rows := d.screen.size()
	d.screen.show(d.progress.lines(d.now(), rows-1))
}

// Pause erases the region, so that a person can be asked something on the
// terminal, until resume is called. What is printed meanwhile waits.
func (d *Display) Pause() (resume func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil && d.paused == 0 {
		d.screen.show(nil)
	}
	d.paused++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.paused--
	}
}

// Event shows what happened in the build.
func (d *Display) Event(e engine.Event) {
	if e.Type == engine.Notice {
		if d.level >= levelNormal || d.json != nil {
			d.Note("b9: " + e.Line)
		}
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	s := d.progress.event(e, d.now())
	if e.Type == engine.StepFailed {
		d.failures = append(d.failures, failure{step: s, err: e.Err, took: e.Duration})
	}
	if d.json != nil {
		d.json.event(e)
	} else if s != nil {
		d.tell(s, e)
	}
}

// Note shows a message of b9 itself, such as a warning, above what is running.
func (d *Display) Note(message string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.json != nil {
		d.json.note(message)
		return
	}
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		d.print(segment{plain, line})
	}
}

// Placing shows that so many bytes of the results are placed, of so many.
func (d *Display) Placing(done, total int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	now := d.now()
	first := d.progress.place(done, total, now)
	switch {
	case total < largePlacing:
	case d.json != nil:
		d.json.placing(done, total)
	case first && d.level >= levelNormal && d.screen == nil:
		d.print(d.stamp([]segment{{plain, "placing " + size.About(total)}})...)
	}
}

// Finish erases the region and prints how the build ended: one line, and
// after it every failed step with the end of its log. When no step failed, an
// error is left to the caller to print.
func (d *Display) Finish(s Summary) {
	d.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	d.ended = true
	if d.json != nil {
		for _, note := range s.Notes {
			d.json.note(note)
		}
		d.json.finish(s, d.progress.failed)
		return
	}
	d.conclude(s)
}

// Close erases the region, prints what was waiting, and draws nothing
// more. Finish calls it; calling it again does nothing.
func (d *Display) Close() {
	d.mu.Lock()
	stop := d.stop
	d.stop = nil
	d.mu.Unlock()
	if stop == nil {
		return
	}
	close(stop)
	<-d.stopped
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.screen != nil {
		d.screen.close()
	}
}

// abandon erases the region before the process ends, if whoever has the display does not
// hold it for good.
func (d *Display) abandon() {
	for range 20 {
		if d.mu.TryLock() {
			defer d.mu.Unlock()
			if d.screen != nil {
				d.screen.close()
			}
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// print shows one line, made of cleaned segments.
func (d *Display) print(line ...segment) {
	if d.screen != nil {
		d.screen.print(line)
		return
	}
	// An error of standard error has nowhere to be printed.
	_, _ = io.WriteString(d.w, render(line, false)+"\n")
}

// CheckMode refuses a mode that is none of the modes.
func CheckMode(mode string) error {
	if mode == "" || slices.Contains(modes[:], mode) {
		return nil
	}
	return fmt.Errorf("--display %s: want auto, live, plain, json or quiet", mode)
}
