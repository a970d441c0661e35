package display

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// idle is an action that is never run.
type idle struct{}

func (idle) Kind() string                           { return "idle/1" }
func (idle) Run(context.Context, *engine.Job) error { return nil }

// node makes a step for events, which needs the others.
func node(t *testing.T, label, builtin string, needs ...*engine.Node) *engine.Node {
	t.Helper()
	var inputs []engine.Input
	for _, n := range needs {
		inputs = append(inputs, engine.Input{Role: n.Label(), Ref: n.Ref("")})
	}
	n, err := engine.NewNode(idle{}, engine.NodeOptions{
		Label: label, Builtin: builtin, Inputs: inputs, Outputs: []engine.Output{{Kind: store.File}},
		Stack: []engine.Position{{File: "web/B9BUILD.star", Line: 12, Col: 8}, {File: "lib.star", Line: 3, Col: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// stage is a display with a clock that only the test moves.
type stage struct {
	*Display
	t    *testing.T
	out  bytes.Buffer
	time time.Time
}

func newStage(t *testing.T, o Options) *stage {
	t.Helper()
	s := &stage{t: t, time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	o.Now = func() time.Time { return s.time }
	if o.Getenv == nil {
		o.Getenv = environ("TERM=xterm", "NO_COLOR=1")
	}
	if o.Width == nil {
		o.Width = func() (int, int) { return 80, 24 }
	}
	if o.Ticks == nil {
		o.Ticks = make(chan time.Time)
	}
	s.Display = New(&s.out, o)
	t.Cleanup(s.Display.Close)
	return s
}

func environ(vars ...string) func(string) string {
	return func(name string) string {
		for _, kv := range vars {
			if k, v, _ := strings.Cut(kv, "="); k == name {
				return v
			}
		}
		return ""
	}
}

func (s *stage) wait(d time.Duration) { s.time = s.time.Add(d) }

func (s *stage) ready(total int64) { s.Event(engine.Event{Type: engine.GraphReady, Total: total}) }
func (s *stage) start(n *engine.Node) {
	s.Event(engine.Event{Type: engine.StepStarted, Node: n})
}
func (s *stage) log(n *engine.Node, line string) {
	s.Event(engine.Event{Type: engine.StepLog, Node: n, Line: line})
}
func (s *stage) bytes(n *engine.Node, done, total int64) {
	s.Event(engine.Event{Type: engine.StepProgress, Node: n, Done: done, Total: total})
}
func (s *stage) finish(n *engine.Node, d time.Duration) {
	s.Event(engine.Event{Type: engine.StepDone, Node: n, Duration: d})
}
func (s *stage) cached(n *engine.Node) { s.Event(engine.Event{Type: engine.StepCached, Node: n}) }
func (s *stage) fail(n *engine.Node, d time.Duration, err error) {
	s.Event(engine.Event{Type: engine.StepFailed, Node: n, Duration: d, Err: err})
}

// expect compares what was written since the last call.
func (s *stage) expect(want string) {
	s.t.Helper()
	if got := s.out.String(); got != want {
		s.t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	s.out.Reset()
}

// build is a small build with a step of each fate.
func (s *stage) build() {
	base := node(s.t, "//web:base", "bootstrap")
	root := node(s.t, "//web:root", "lxc_exec", base)
	disk := node(s.t, "//web:disk", "convert", root)
	s.ready(4)
	s.cached(base)
	s.start(root)
	s.log(root, "Reading package lists...")
	s.wait(12300 * time.Millisecond)
	s.finish(root, 12300*time.Millisecond)
	s.start(disk)
	s.bytes(disk, 1<<30, 4<<30)
	s.wait(200 * time.Millisecond)
	s.finish(disk, 200*time.Millisecond)
}

func TestPlain(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	s.build()
	s.Note("warning: the clock is wrong\n")
	s.Finish(Summary{Executed: 2, Cached: 1, Took: 12500 * time.Millisecond})
	s.expect(`//web:root  lxc_exec  started
//web:root  lxc_exec  done 12.3 s
//web:disk  convert  started
//web:disk  convert  done 0.20 s
warning: the clock is wrong
3 steps: 2 executed, 1 cached in 12.5 s
critical path 12.5 s: //web:root 12.3 s, //web:disk 0.20 s
`)
}

func TestPlainVerbose(t *testing.T) {
	s := newStage(t, Options{Mode: "plain", Verbosity: "verbose"})
	s.build()
	s.expect(`//web:base  bootstrap  cached
//web:root  lxc_exec  started
//web:root | Reading package lists...
//web:root  lxc_exec  done 12.3 s
//web:disk  convert  started
//web:disk  convert  done 0.20 s
`)
}

func TestPlainDebug(t *testing.T) {
	s := newStage(t, Options{Mode: "plain", Verbosity: "debug"})
	s.build()
	if got := s.out.String(); !strings.Contains(got, "\n  12.300 //web:root  lxc_exec  done 12.3 s\n") {
		t.Errorf("no times in:\n%s", got)
	}
}

func TestQuiet(t *testing.T) {
	for _, o := range []Options{{Mode: "quiet"}, {Mode: "live", Verbosity: "quiet"}, {Mode: "quiet", Verbosity: "debug"}} {
		s := newStage(t, o)
		s.build()
		s.Finish(Summary{Executed: 2, Cached: 1})
		s.expect("")
	}
}

func TestNothingToDo(t *testing.T) {
	s := newStage(t, Options{})
	s.ready(1)
	s.cached(node(t, "//a:a", "file"))
	s.Finish(Summary{Cached: 1, Took: 40 * time.Millisecond})
	s.Finish(Summary{Cached: 9})
	s.expect("1 step: 0 executed, 1 cached in 0.04 s\n")
}

// kept makes the state of a failed step, enterable or not.
func kept(t *testing.T, enterable bool) string {
	t.Helper()
	dir := t.TempDir()
	if enterable {
		if err := os.WriteFile(filepath.Join(dir, "sandbox.json"), []byte(`{"Spec":{},"Note":"x"}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The log of the failed step and what to do come last, whatever else went on.
func TestFailure(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	root, other := node(t, "//web:root", "lxc_exec"), node(t, "//web:other", "fetch")
	dir := kept(t, true)
	s.ready(3)
	s.start(root)
	s.start(other)
	for i := range 42 {
		s.log(root, fmt.Sprintf("line %d", i+1))
	}
	err := &engine.StepError{Node: root, Err: errors.New("script: exit status 3"), Kept: dir, Log: dir + "/log"}
	s.fail(root, 3200*time.Millisecond, err)
	s.finish(other, 4*time.Second)
	s.Finish(Summary{Executed: 1, Err: errors.Join(err, errors.New("the store is full")), Took: 4 * time.Second})

	got := strings.ReplaceAll(s.out.String(), dir, "KEPT")
	lines := strings.SplitAfter(got, "\n")
	const head = 10
	if want := `//web:root  lxc_exec  started
//web:other  fetch  started
//web:root  lxc_exec  failed 3.2 s
//web:other  fetch  done 4.0 s
2 steps: 1 executed, 0 cached, 1 failed in 4.0 s
critical path 4.0 s: //web:other 4.0 s; slowest beside it: //web:root 3.2 s

//web:root  lxc_exec  failed after 3.2 s; the last 40 of 42 lines of its log:
//web:root | line 3
//web:root | line 4
`; strings.Join(lines[:head], "") != want {
		t.Errorf("begins:\n%s\nwant:\n%s", strings.Join(lines[:head], ""), want)
	}
	if want := `//web:root | line 42
the whole log: KEPT/log

web/B9BUILD.star:12:8: lxc_exec(): script: exit status 3
look around in it with: b9 shell //web:root

the store is full
`; !strings.HasSuffix(got, want) {
		t.Errorf("ends:\n%s\nwant:\n%s", got, want)
	}
}

func TestFailureWithoutContainer(t *testing.T) {
	s := newStage(t, Options{Mode: "quiet"})
	n := node(t, "//web:root (resize)", "resize")
	dir := kept(t, false)
	err := &engine.StepError{Node: n, Err: errors.New("does not fit"), Kept: dir}
	s.start(n)
	s.fail(n, time.Second, err)
	s.Finish(Summary{Err: err})
	s.expect("\nweb/B9BUILD.star:12:8: resize(): does not fit\nits files are kept in " + dir + "\n")
}

// A step that cannot even be looked up fails without having started.
func TestFailureBeforeStart(t *testing.T) {
	s := newStage(t, Options{Mode: "plain", Verbosity: "debug"})
	n := node(t, "//web:page", "file")
	err := &engine.StepError{Node: n, Err: errors.New("web/index.html: no such file")}
	s.fail(n, 0, err)
	s.Finish(Summary{Err: err, Took: time.Second})
	s.expect(`   0.000 //web:page  file  failed 0.00 s
1 step: 0 executed, 0 cached, 1 failed in 1.0 s

web/B9BUILD.star:12:8: file(): web/index.html: no such file
    called from lib.star:3:1
`)
}

// An interrupted build does not look like a failed one.
func TestInterrupted(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	n := node(t, "//web:root", "lxc_exec")
	s.start(n)
	s.log(n, "half way")
	s.fail(n, 2*time.Second, context.Canceled)
	s.Finish(Summary{Executed: 3, Cached: 4, Interrupted: true, Err: context.Canceled, Took: 65 * time.Second})
	s.expect(`//web:root  lxc_exec  started
//web:root  lxc_exec  stopped 2.0 s
interrupted after 1 min 5 s: 3 executed, 4 cached

//web:root  lxc_exec  stopped after 2.0 s; its log:
//web:root | half way
`)
}

func TestStoppedStepsTellWhatTheyDidLast(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	n := node(t, "//web:root", "lxc_exec")
	kept := t.TempDir()
	if err := os.WriteFile(filepath.Join(kept, "sandbox.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(n)
	for i := range 12 {
		s.log(n, fmt.Sprint("line ", i))
	}
	s.fail(n, 2*time.Second, &engine.StepError{Node: n, Err: context.Canceled, Kept: kept, Log: "/kept/log", Stopped: true})
	s.Finish(Summary{Interrupted: true, Err: context.Canceled, Took: 3 * time.Second})
	var tail strings.Builder
	for i := 2; i < 12; i++ {
		fmt.Fprintf(&tail, "//web:root | line %d\n", i)
	}
	s.expect(`//web:root  lxc_exec  started
//web:root  lxc_exec  stopped 2.0 s
interrupted after 3.0 s: 0 executed, 0 cached

//web:root  lxc_exec  stopped after 2.0 s; the last 10 of 12 lines of its log:
` + tail.String() + `the whole log: /kept/log
look around in it with: b9 shell //web:root
`)
}

// Without a region lines say now and then what runs.
func TestPlainSaysWhatRuns(t *testing.T) {
	ticks := make(chan time.Time)
	s := newStage(t, Options{Mode: "plain", Ticks: ticks})
	long, short := node(t, "//web:root", "lxc_exec"), node(t, "//web:disk", "convert")
	s.start(long)
	s.log(long, "Setting up nginx ...")
	s.log(long, "")
	s.wait(20 * time.Second)
	s.start(short)
	s.wait(10 * time.Second)
	ticks <- s.time
	s.Close() // waits for what the tick began
	s.expect(`//web:root  lxc_exec  started
//web:disk  convert  started
//web:root  lxc_exec  runs for 0:30  Setting up nginx ...
`)
	s.wait(30 * time.Second)
	s.sayRunning()
	s.expect(`//web:root  lxc_exec  runs for 1:00  Setting up nginx ...
//web:disk  convert  runs for 0:40
`)
	for i := range 2 * maxLong {
		s.start(node(t, fmt.Sprint("//more:", i), "lxc_exec"))
	}
	s.out.Reset()
	s.wait(time.Minute)
	s.sayRunning()
	if got := s.out.String(); strings.Count(got, "\n") != maxLong+1 || !strings.HasSuffix(got, "and 12 more run\n") {
		t.Errorf("many steps:\n%s", got)
	}
}

func TestQuietSaysNotWhatRuns(t *testing.T) {
	for _, mode := range []string{"quiet", "json"} {
		if s := newStage(t, Options{Mode: mode}); s.stop != nil {
			t.Errorf("%s has ticks", mode)
		}
	}
}

// What the first signal leaves on a terminal the second takes away.
func TestAbandonErasesTheRegion(t *testing.T) {
	var out bytes.Buffer
	c := NewConsole(&out)
	d, end := c.Build(Options{Mode: "live", Getenv: environ("TERM=xterm", "NO_COLOR=1"), Width: func() (int, int) { return 80, 24 }, Ticks: make(chan time.Time)})
	defer end()
	d.Event(engine.Event{Type: engine.StepStarted, Node: node(t, "//web:root", "lxc_exec")})
	d.frame()
	if !strings.HasSuffix(out.String(), "0:00\x1b[K\n") {
		t.Fatalf("drawn %q", out.String())
	}
	c.Abandon()
	if !strings.HasSuffix(out.String(), "\x1b[2A\r\x1b[J") {
		t.Errorf("left %q", out.String())
	}
	d.mu.Lock() // by somebody who waits for the terminal
	c.Abandon()
	d.mu.Unlock()
}

// An error of no step is for the caller to print.
func TestErrorOfNoStep(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	s.Finish(Summary{Err: errors.New("cannot place results"), Took: time.Second})
	s.expect("0 steps: 0 executed, 0 cached in 1.0 s\n")
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		o        Options
		terminal bool
		want     string
	}{
		{Options{Getenv: environ("TERM=xterm")}, false, "plain"},
		{Options{Getenv: environ("TERM=xterm")}, true, "live"},
		{Options{Getenv: environ("TERM=xterm", "CI=true")}, true, "plain"},
		{Options{Getenv: environ("TERM=xterm", "CI=false")}, true, "live"},
		{Options{Getenv: environ("TERM=xterm", "CI=")}, true, "live"},
		{Options{Mode: "auto", Getenv: environ("TERM=xterm", "CI=1")}, true, "plain"},
		{Options{Mode: "live", Getenv: environ("TERM=xterm", "CI=true")}, true, "live"}, // as asked for
		{Options{Mode: "live", Getenv: environ("TERM=xterm")}, false, "live"},
		{Options{Mode: "live", Getenv: environ("TERM=dumb")}, false, "plain"},
		{Options{Mode: "live", Getenv: environ()}, false, "plain"},
		{Options{Mode: "json", Verbosity: "quiet", Getenv: environ()}, false, "json"},
		{Options{Mode: "live", Verbosity: "quiet", Getenv: environ("TERM=xterm")}, false, "plain"},
	} {
		if got := c.o.mode(c.terminal); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}

func TestJSON(t *testing.T) {
	s := newStage(t, Options{Mode: "json"})
	n := node(t, "//web:root", "lxc_exec")
	s.ready(2)
	s.cached(node(t, "//web:base", "bootstrap"))
	s.start(n)
	s.log(n, "a \x1b[31m red \u009b31m\x7f <line>")
	s.bytes(n, 1, 10)
	s.bytes(n, 2, 10)
	s.wait(time.Second)
	s.bytes(n, 3, 10)
	s.finish(n, time.Second)
	s.fail(n, time.Second, &engine.StepError{Node: n, Err: errors.New("no"), Log: "/l", Kept: "/k"})
	s.Note("careful")
	s.Finish(Summary{Executed: 1, Cached: 1, Err: errors.New("all of it"), Took: time.Second})
	text := s.out.String()
	s.expect(strings.NewReplacer("S,", `"schema":"event/1",`, "T0", `"time":"2026-01-02T03:04:05Z"`, "T1", `"time":"2026-01-02T03:04:06Z"`,
		"NODE", `"label":"//web:root","builtin":"lxc_exec","place":{"file":"web/B9BUILD.star","line":12,"col":8}`).Replace(
		`{S,T0,"event":"graph","total":2}
{S,T0,"event":"cached","label":"//web:base","builtin":"bootstrap","place":{"file":"web/B9BUILD.star","line":12,"col":8}}
{S,T0,"event":"started",NODE}
{S,T0,"event":"log",NODE,"line":"a \u001b[31m red \u009b31m\u007f <line>"}
{S,T0,"event":"progress",NODE,"done":1,"total":10}
{S,T1,"event":"progress",NODE,"done":3,"total":10}
{S,T1,"event":"done",NODE,"seconds":1}
{S,T1,"event":"failed",NODE,"seconds":1,"error":"web/B9BUILD.star:12:8: lxc_exec(): no","log":"/l","kept":"/k"}
{S,T1,"event":"note","line":"careful"}
{S,T1,"event":"finished","seconds":1,"error":"all of it","executed":1,"cached":1,"failed":1}
`))
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		var e output.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("%s: %v", line, err)
		} else if e.Event == "log" && *e.Line != "a \x1b[31m red \u009b31m\x7f <line>" {
			t.Errorf("the line comes back as %q", *e.Line)
		}
	}
}

func TestPlacing(t *testing.T) {
	s := newStage(t, Options{Mode: "plain"})
	s.build()
	s.out.Reset()
	s.Placing(0, 8<<30)
	s.wait(16 * time.Second)
	s.Placing(8<<30, 8<<30)
	s.wait(4 * time.Second)
	s.Finish(Summary{Executed: 2, Cached: 1, Took: 12500 * time.Millisecond})
	s.expect("placing 8GiB\n3 steps: 2 executed, 1 cached in 12.5 s, 8GiB placed at 409.6MiB/s\ncritical path 12.5 s: //web:root 12.3 s, //web:disk 0.20 s\n")
	for _, o := range []Options{{Mode: "plain"}, {Mode: "quiet"}} {
		s = newStage(t, o)
		s.Placing(1<<20, 1<<20) // what is small is not worth a word
		if o.Mode == "quiet" {
			s.Placing(8<<30, 8<<30)
		}
		s.expect("")
	}
	s = newStage(t, Options{Mode: "json"})
	s.Placing(1<<30, 8<<30)
	s.Placing(2<<30, 8<<30) // at once: it is not due
	s.Placing(8<<30, 8<<30)
	if got := s.out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `"event":"placing","done":1073741824,"total":8589934592`) {
		t.Errorf("got %s", got)
	}
}

func TestPlacingInTheRegion(t *testing.T) {
	p := progress{}
	at := time.Unix(100, 0)
	p.place(0, 4<<30, at)
	p.place(1<<30, 4<<30, at)
	if got, want := p.placing.line(at.Add(2*time.Second)), "placing  1GiB of 4GiB, 512MiB/s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, rows := range []int{1, 2, 9} {
		if got := len(p.lines(at, rows)); got != min(2, rows) {
			t.Errorf("%d lines in %d rows", got, rows)
		}
	}
}
