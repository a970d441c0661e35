package backends

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"b9.build/b9/engine/container"
)

// forever is longer than any test, in seconds: a run that ends was ended.
const forever = "1000000"

func testTimeout(t *testing.T, w *world) {
	r := w.peek("sleep " + forever)
	r.spec.Timeout, r.spec.Grace = 300*time.Millisecond, time.Second
	if res := r.do(t); res.Reason != container.TimedOut {
		t.Errorf("got %+v", res)
	}
}

// begin runs r and returns once it has printed a line, with a function that
// waits for the result.
func (r *run) begin(t *testing.T, ctx context.Context) func() (container.Result, error) {
	t.Helper()
	pr, pw := io.Pipe()
	r.io.Stdout = pw
	type answer struct {
		res container.Result
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
	return func() (container.Result, error) {
		a := <-done
		return a.res, a.err
	}
}

func testCancel(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	r, image := w.script(t, "trap 'sleep 0.2; echo caught >/caught; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
	r.spec.Grace = time.Minute // for more than what it does, and then it is killed
	wait := r.begin(t, ctx)
	cancel()
	res, err := wait()
	if err != nil || res.Reason != container.Cancelled || res.Signal != "" {
		t.Errorf("got %+v, %v", res, err)
	}
	checkImageClean(t, image)
	if got := catImage(t, image, "/caught"); got != "caught\n" {
		t.Errorf("the command had no chance to tidy up: %q", got)
	}
}

func testCancelEarly(t *testing.T, w *world) {
	for _, after := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond, 100 * time.Millisecond} {
		ctx, cancel := context.WithCancel(context.Background())
		r, image := w.script(t, "sleep "+forever)
		time.AfterFunc(after, cancel)
		res, err := r.backend.Run(ctx, r.spec, r.io)
		if err != nil || res.Reason != container.Cancelled {
			t.Errorf("after %v: got %+v, %v", after, res, err)
		}
		checkImageClean(t, image)
	}
}

func testStubborn(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	r, image := w.script(t, "trap '' TERM INT HUP; (trap '' TERM; while :; do sleep 1; done) & echo ready; while :; do sleep 1; done")
	r.spec.Grace = 300 * time.Millisecond
	wait := r.begin(t, ctx)
	cancel()
	res, err := wait()
	if err != nil || res.Reason != container.Cancelled || res.Signal != "SIGKILL" {
		t.Errorf("got %+v, %v", res, err)
	}
	checkImageClean(t, image)
}

func testBackground(t *testing.T, w *world) {
	r, image := w.script(t, "(trap '' TERM HUP; echo in background; while :; do echo x >>/log; sleep 0.01; done) & setsid sleep "+forever+" & until [ -s /log ]; do sleep 0.01; done; exit 0")
	if got := r.output(t); got != "in background\n" {
		t.Errorf("output %q", got)
	}
	checkImageClean(t, image)
}

func testTwice(t *testing.T, w *world) {
	ctx, cancel := context.WithCancel(context.Background())
	first, image := w.script(t, "echo ready; sleep "+forever)
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

func testRefusals(t *testing.T, w *world) {
	garbage := filepath.Join(t.TempDir(), "garbage.img")
	write(t, garbage, bytes.Repeat([]byte("no file system "), 1<<16), 0o600)
	corrupt := copyImage(t, w.root)
	f, err := os.OpenFile(corrupt, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 64), 1024); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for want, change := range map[string]func(*container.Spec){
		`command "nosuch" is not in the image`:   func(s *container.Spec) { s.Argv = []string{"nosuch"} },
		`command "/no/such" is not in the image`: func(s *container.Spec) { s.Argv = []string{"/no/such"} },
		`command "/etc" can't be executed`:       func(s *container.Spec) { s.Argv = []string{"/etc"} },
		"working directory /no/such":             func(s *container.Spec) { s.Dir = "/no/such" },
		`user "bob" of the image`:                func(s *container.Spec) { s.User = "bob" },
		`unknown capability "x"`:                 func(s *container.Spec) { s.Capabilities = []string{"x"} },
		"/no/such.img: no such file":             func(s *container.Spec) { s.Mounts[0].Source = "/no/such.img" },
		"has no file system that is known":       func(s *container.Spec) { s.Mounts[0].Source = garbage },
		"no usable ext4 file system":             func(s *container.Spec) { s.Mounts[0].Source, s.Mounts[0].FSType = corrupt, "ext4" },
		"the kernel has no nosuchfs file system": func(s *container.Spec) { s.Mounts[0].FSType = "nosuchfs" },
		"nothing to mount at offset":             func(s *container.Spec) { s.Mounts[0].Offset = 1 << 40 },
		"not a directory": func(s *container.Spec) {
			s.Mounts = append(s.Mounts, container.Mount{Source: garbage, Target: "/a", Kind: container.Dir})
		},
		"mount point /bin/busybox in the image": func(s *container.Spec) {
			s.Mounts = append(s.Mounts, container.Mount{Target: "/bin/busybox", Kind: container.Tmpfs})
		},
	} {
		r := w.peek("true")
		change(&r.spec)
		r.refused(t, want)
	}
}

func testBrokenOutput(t *testing.T, w *world) {
	r := w.peek("while :; do echo y; done")
	broken := errors.New("no more room")
	r.io.Stdout = writerFunc(func([]byte) (int, error) { return 0, broken })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := r.backend.Run(ctx, r.spec, r.io); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func testParallel(t *testing.T, w *world) {
	var wg sync.WaitGroup
	for i := range 8 {
		r, image := w.script(t, fmt.Sprintf("echo %d >/number; cat /number", i))
		wg.Add(1)
		go func() {
			defer wg.Done()
			res, err := r.backend.Run(context.Background(), r.spec, r.io)
			if err != nil || res.Code != 0 || r.out.String() != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: %+v, %v: %s%s", i, res, err, r.out.String(), r.err.String())
			}
			checkImageClean(t, image)
		}()
	}
	wg.Wait()
}
