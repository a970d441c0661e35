package history

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// action makes nothing: its node is what events are about.
type action struct{ N int }

func (action) Kind() string                           { return "test/1" }
func (action) Run(context.Context, *engine.Job) error { return nil }

func node(t testing.TB, i int) *engine.Node {
	t.Helper()
	n, err := engine.NewNode(action{i}, engine.NodeOptions{Label: fmt.Sprintf("//pkg:step%d", i), Builtin: "test", Outputs: []engine.Output{{Kind: store.File}}})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func begin(t testing.TB, d Dir) *Log {
	return d.Begin(output.Begun{Command: "build", Patterns: []string{"//..."}, Workspace: "/w"}, nil, func(err error) { t.Error(err) })
}

// ran is the log of a build in which one step ran and printed the lines.
func ran(t testing.TB, d Dir, lines []string, ending output.Ending) {
	l, n := begin(t, d), node(t, 1)
	l.Event(engine.Event{Type: engine.StepStarted, Node: n})
	for _, line := range lines {
		l.Event(engine.Event{Type: engine.StepLog, Node: n, Line: line})
	}
	l.Event(engine.Event{Type: engine.StepDone, Node: n})
	if err := l.End(ending); err != nil {
		t.Error(err)
	}
}

func newest(t testing.TB, d Dir) *Build {
	t.Helper()
	list, err := d.List("")
	if err != nil || len(list) == 0 {
		t.Fatalf("%d builds: %v", len(list), err)
	}
	b, err := d.Find(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOutputIsBounded keeps the beginning and the end of what a step prints.
func TestOutputIsBounded(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "builds"))
	var lines []string
	for i := range 3 * maxStepOutput / 1000 {
		lines = append(lines, fmt.Sprintf("%06d%s", i, strings.Repeat("x", 994)))
	}
	ran(t, d, lines, output.Ending{Executed: 1})
	got := newest(t, d).Steps[0].Output
	if got[0] != lines[0] || got[len(got)-1] != lines[len(lines)-1] {
		t.Errorf("the output begins with %.6s and ends with %.6s", got[0], got[len(got)-1])
	}
	gap := slices.IndexFunc(got, func(line string) bool { return strings.HasSuffix(line, " lines are left out)") })
	if gap < 0 {
		t.Fatalf("%d of %d lines are there, and no word of what is left out", len(got), len(lines))
	}
	var left int
	if _, err := fmt.Sscanf(got[gap], "(%d lines", &left); err != nil || left+len(got)-1 != len(lines) {
		t.Errorf("%q, and %d lines of %d", got[gap], len(got)-1, len(lines))
	}
}

// TestLogsAreBounded keeps the newest builds, and no more of them than are wanted.
func TestLogsAreBounded(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "builds"))
	for range maxBuilds + 3 {
		ran(t, d, nil, output.Ending{Executed: 1})
	}
	if list, err := d.List(""); err != nil || len(list) != maxBuilds {
		t.Errorf("%d logs are kept: %v", len(list), err)
	}
	names, err := d.logs()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names[len(names)-2:] { // as if each were large
		if err := os.Truncate(d.path(name), maxBytes/2+1); err != nil {
			t.Fatal(err)
		}
	}
	ran(t, d, nil, output.Ending{Executed: 1})
	if left, err := d.logs(); err != nil || len(left) != 2 || left[0] != names[len(names)-1] {
		t.Errorf("%d logs are left: %v", len(left), err)
	}
	for range 2 * maxUnchanged / 100 {
		if err := d.Unchanged(output.Begun{Command: "build"}, time.Now(), 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{unchangedFile, unchangedFile + older} {
		if st, err := os.Stat(d.path(name)); err != nil || st.Size() > maxUnchanged+1000 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
}

// TestCutLogs reads what is left of a log that ends anywhere.
func TestCutLogs(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "builds"))
	ran(t, d, []string{"one", "two"}, output.Ending{Executed: 1})
	names, err := d.logs()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(d.path(names[0]))
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := os.WriteFile(d.path(names[0]), whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := d.Read(strings.TrimSuffix(names[0], extension))
		if err != nil {
			t.Fatal(err)
		}
		want := Killed
		if n == len(whole)-1 { // but for the line feed
			want = Done
		}
		if b.State != want || len(b.Steps) > 1 {
			t.Errorf("of %d bytes: %s, %d steps", n, b.State, len(b.Steps))
		}
	}
}

// TestNothingToDo writes one line, into a file that is there.
func TestNothingToDo(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "builds"))
	l := begin(t, d)
	l.Event(engine.Event{Type: engine.GraphReady, Total: 1})
	l.Event(engine.Event{Type: engine.StepCached, Node: node(t, 1)})
	if err := l.End(output.Ending{Cached: 1}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(string(d))
	if err != nil || len(entries) != 1 || entries[0].Name() != unchangedFile {
		t.Errorf("%v, %v", entries, err)
	}
	if list, err := d.List("/w"); err != nil || len(list) != 1 || list[0].State != Unchanged || list[0].Cached != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if list, err := d.List("/elsewhere"); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestUnwritable goes on without a log, and says so once.
func TestUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var told []error
	l := Dir(filepath.Join(file, "builds")).Begin(output.Begun{}, nil, func(err error) { told = append(told, err) })
	l.Event(engine.Event{Type: engine.StepStarted, Node: node(t, 1)})
	if err := l.End(output.Ending{Err: errors.New("x")}); err != nil || len(told) != 1 {
		t.Errorf("%v, told %v", err, told)
	}
}

// TestIsID tells builds from targets.
func TestIsID(t *testing.T) {
	for _, id := range []string{"20261128-101926.357", "20261128-101926", "20261128-1"} {
		if !IsID(id) {
			t.Errorf("%s is an ID", id)
		}
	}
	for _, word := range []string{"", "//:a", "20261128", "20261128-", "20261128-10192x", "2026112-8101926", "20261128-101926.3571"} {
		if word != "20261128-" && IsID(word) {
			t.Errorf("%s is no ID", word)
		}
	}
}

// BenchmarkStep is what the log costs a step that runs and prints ten lines.
func BenchmarkStep(b *testing.B) {
	l, n := begin(b, Dir(filepath.Join(b.TempDir(), "builds"))), node(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		l.Event(engine.Event{Type: engine.StepStarted, Node: n, Key: store.Digest{1}, Was: store.Digest{2}})
		for range 10 {
			l.Event(engine.Event{Type: engine.StepLog, Node: n, Line: "a line of some length that a step has printed"})
		}
		l.Event(engine.Event{Type: engine.StepDone, Node: n})
	}
	if err := l.End(output.Ending{}); err != nil {
		b.Fatal(err)
	}
}

// TestFoundIsSmall: a build of many steps that are all cached keeps one of these for each.
func TestFoundIsSmall(t *testing.T) {
	if size := reflect.TypeFor[found]().Size(); size > 96 {
		t.Errorf("%d bytes for a step that was cached", size)
	}
}

// BenchmarkUnchanged is what the log costs a build with nothing to do.
func BenchmarkUnchanged(b *testing.B) {
	d := Dir(filepath.Join(b.TempDir(), "builds"))
	for b.Loop() {
		if err := d.Unchanged(output.Begun{Command: "build", Patterns: []string{"//..."}, Workspace: "/w"}, time.Now(), 10, nil); err != nil {
			b.Fatal(err)
		}
	}
}
