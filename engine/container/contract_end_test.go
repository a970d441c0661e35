package container

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// The part of the contract about how a run ends, and about two at once.

func testTimeout(t *testing.T, w *world) {
	r := w.peek("sleep 100")
	r.spec.Timeout, r.spec.Grace = 300*time.Millisecond, time.Second
	began := time.Now()
	if res := r.do(t); res.Reason != TimedOut {
		t.Errorf("got %+v", res)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// begin runs r and returns once it has printed a line, with a function that
// waits for the result.
func (r *run) begin(t *testing.T, ctx context.Context) func() (Result, error) {
	t.Helper()
	pr, pw := io.Pipe()
	r.io.Stdout = pw
	type answer struct {
		res Result
		err error
	}
	done := make(chan answer, 1)
	go func() {
		res, err := r.backend.Run(ctx, r.spec, r.io)
		pw.Close()
		done <- answer{res, err}
	}()
	if _, err := pr.Read(make([]byte, 100)); err != nil {
		a := <-done
		t.Fatalf("the command printed nothing: %+v, %v: %s", a.res, a.err, r.err.String())
	}
	go func() { _, _ = io.Copy(io.Discard, pr) }()
	return func() (Result, error) {
		a := <-done
		return a.res, a.err
	}
}

func testCancel(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	r, image := w.script(t, "trap 'echo caught >/caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
	wait := r.begin(t, ctx)
	began := time.Now()
	cancel()
	res, err := wait()
	if err != nil || res.Reason != Cancelled {
		t.Errorf("got %+v, %v", res, err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	checkImageClean(t, image)
	if got := catImage(t, image, "/caught"); got != "caught\n" {
		t.Errorf("the command had no chance to tidy up: %q", got)
	}
}

func testCancelEarly(t *testing.T, w *world) {
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond} {
		ctx, cancel := context.WithCancel(context.Background())
		r, image := w.script(t, "sleep 100")
		time.AfterFunc(after, cancel)
		began := time.Now()
		res, err := r.backend.Run(ctx, r.spec, r.io)
		if err != nil || res.Reason != Cancelled {
			t.Errorf("after %v: got %+v, %v", after, res, err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("after %v: took %v", after, d)
		}
		checkImageClean(t, image)
	}
}

func testStubborn(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	r, image := w.script(t, "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 1; done) & echo ready; while :; do sleep 1; done")
	r.spec.Grace = 300 * time.Millisecond
	wait := r.begin(t, ctx)
	began := time.Now()
	cancel()
	res, err := wait()
	if err != nil || res.Reason != Cancelled || res.Signal != "SIGKILL" {
		t.Errorf("got %+v, %v", res, err)
	}
	if d := time.Since(began); d < 300*time.Millisecond || d > 10*time.Second {
		t.Errorf("took %v", d)
	}
	checkImageClean(t, image)
}

func testBackground(t *testing.T, w *world) {
	r, image := w.script(t, "(trap '' TERM HUP; echo in background; while :; do echo x >>/log; sleep 0.01; done) & setsid sleep 1000 & sleep 0.3; exit 0")
	began := time.Now()
	if got := r.output(t); got != "in background\n" {
		t.Errorf("output %q", got)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
	checkImageClean(t, image)
}

func testTwice(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	first, image := w.script(t, "echo ready; sleep 100")
	wait := first.begin(t, ctx)
	second := script(w.backend, image, "true")
	second.refused(t, "is in use by another container")
	reader := script(w.backend, image, "true")
	reader.spec.Mounts[0].ReadOnly = true
	reader.refused(t, "is in use by another container")
	cancel()
	if _, err := wait(); err != nil {
		t.Error(err)
	}
	script(w.backend, image, "true").output(t)
}

// refused asserts that a run cannot be started, and why.
func (r *run) refused(t *testing.T, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := r.backend.Run(ctx, r.spec, r.io)
	if err == nil {
		t.Errorf("want an error that contains %q, got %+v", want, res)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("want an error that contains %q, got %v", want, err)
	}
}
