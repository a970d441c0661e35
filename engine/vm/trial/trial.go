// Package trial starts a machine and checks it: what its console says, how commands in it
// end, what it serves. It hides by which channel a command gets in, and how long a check may
// take on a host with much else to do. It knows no graph and no store.
//
//	Check   one check, as data; Valid says what is wrong with it
//	Run     starts a machine and checks it, one check after the other
//	Report  how it went, as a document
package trial

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/qemu"
)

// schema names the document that a [Report] is, and its version.
const schema = "boot_test/1"

// Options are how a machine is tried.
type Options struct {
	Accel   string        // "kvm" or "tcg"
	Scratch string        // a directory of this user alone
	Open    bool          // the machine's network has a way out
	Limit   time.Duration // for each check, see [clock]
	Log     io.Writer     // the console as text, and what is checked; written to by one goroutine at a time
	Console io.Writer     // all that the first serial line says, byte for byte

	// Screenshot is a file for what the screen showed when a check failed, as PNG; "" for none.
	Screenshot string
}

// Status is how a check went.
type Status string

// The statuses. A check after one that failed has not been run.
const (
	Passed Status = "passed"
	Failed Status = "failed"
	NotRun Status = "not run"
)

// Report says how a trial went.
type Report struct {
	Schema      string   `json:"schema"`
	Machine     string   `json:"machine"` // its name
	Accelerator string   `json:"accelerator"`
	Channel     string   `json:"channel,omitempty"` // of commands: "guest agent" or "ssh"; "" where none was run
	Status      Status   `json:"status"`
	Seconds     float64  `json:"seconds"` // from the start of QEMU to the end of the last check
	Checks      []Result `json:"checks"`
}

// Result is how one check went.
type Result struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Status  Status  `json:"status"`
	Seconds float64 `json:"seconds"` // from the end of the one before, or the start of QEMU
	Error   string  `json:"error,omitempty"`
}

// Document is the report as a file.
func (r *Report) Document() ([]byte, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return append(data, '\n'), err
}

// ReadReport is the report that a document holds.
func ReadReport(data []byte) (*Report, error) {
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, err
	}
	if r.Schema != schema {
		return nil, fmt.Errorf("it is %q, and this b9 reads %s", r.Schema, schema)
	}
	return r, nil
}

// trial is a machine that is being checked.
type trial struct {
	*qemu.Running
	options Options
	log     *log
	clock   *clock
	console *console
	access  *access
	report  *Report

	pictured bool
}

// Run starts a machine whose files have absolute paths, and checks it. It throws away what
// the machine writes. The error is that of the first check that failed; the report then
// says so, too. It is nil where the machine could not be started.
func Run(ctx context.Context, m *vm.Machine, checks []Check, o Options) (_ *Report, err error) {
	t := &trial{options: o, log: &log{to: o.Log}, report: &Report{Schema: schema, Machine: m.Name, Accelerator: o.Accel}}
	with := qemu.Options{Accel: o.Accel, Scratch: o.Scratch, Network: qemu.Network{Closed: !o.Open}}
	if t.access, err = newAccess(m, checks, &with); err != nil {
		return nil, err
	}
	began := time.Now()
	if t.Running, err = qemu.Start(ctx, m, with); err != nil {
		return nil, err
	}
	defer t.Close()
	t.clock = newClock(t.Waited)
	defer t.clock.stop()
	t.console = follow(t.Running.Console, t.log, o.Console)
	defer t.console.wait()
	defer t.End()
	defer t.access.close()
	err = t.checkAll(ctx, checks)
	t.report.Seconds = seconds(began)
	t.report.Channel = t.access.used()
	t.End()
	t.console.wait()
	if err == nil {
		err = t.console.failure()
	}
	if err == nil && t.pictured {
		err = os.Remove(o.Screenshot)
	}
	return t.report, err
}

func seconds(since time.Time) float64 {
	return float64(time.Since(since).Milliseconds()) / 1000
}

// checkAll runs the checks until one fails.
func (t *trial) checkAll(ctx context.Context, checks []Check) error {
	var failed error
	t.report.Status = Passed
	for i := range checks {
		c := &checks[i]
		r := Result{Name: c.Name, Kind: c.Kind, Status: NotRun}
		if failed == nil {
			began := time.Now()
			err := t.limited(ctx, c)
			if r.Seconds = seconds(began); i == 0 {
				r.Seconds = t.clock.since()
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.Status = Passed
			if err != nil {
				failed = fmt.Errorf("%s: %w", c.Name, err)
				r.Status, r.Error, t.report.Status = Failed, err.Error(), Failed
				t.picture()
			}
			t.log.say("%s: %s (%.1f s)", r.Status, c.Name, r.Seconds)
		}
		t.report.Checks = append(t.report.Checks, r)
	}
	return failed
}

// picture keeps what the screen shows, once, as far as it can be had.
func (t *trial) picture() {
	if t.options.Screenshot == "" || t.pictured {
		return
	}
	t.pictured = true
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := t.Screenshot(ctx, t.options.Screenshot); err != nil {
		t.log.say("no picture of the screen: %v", err)
	}
}

// errOff says that a machine went off.
var errOff = errors.New("the machine went off")

// off says that the machine went off, or else what QEMU died of.
func (t *trial) off() error { return cmp.Or(t.Died(), errOff) }

// limited runs one check, which ends when its time is over, and when the machine is off.
func (t *trial) limited(ctx context.Context, c *Check) error {
	over := fmt.Errorf("it did not come so within %v: raise timeout=, or vm.timeout in b9.toml", t.options.Limit)
	ctx, done := t.clock.limit(ctx, t.options.Limit, over)
	defer done()
	if c.Kind != kindPoweroff {
		var stop func()
		ctx, stop = until(ctx, t.Down(), t.off)
		defer stop()
	}
	err := t.check(ctx, c)
	if err != nil && ctx.Err() != nil {
		return unmet(context.Cause(ctx), err)
	}
	return err
}

// unmet joins why a check was given up with what it still waited for.
func unmet(cause, last error) error {
	if errors.Is(last, cause) || errors.Is(last, context.Canceled) {
		return cause
	}
	return fmt.Errorf("%w; at last: %w", cause, last)
}

// until is a context that ends, with the cause, when something else does.
func until(ctx context.Context, end <-chan struct{}, cause func() error) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-end:
			cancel(cause())
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-ended
	}
}
