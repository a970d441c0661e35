package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/qemu"
	"b9.build/b9/engine/vm/trial"
)

// Defaults are what holds where a call says nothing.
type Defaults struct {
	Timeout time.Duration // of each check of boot_test(), 0 for 10 minutes
	Slower  float64       // what every time limit is multiplied by, 0 for 1
}

// usualTimeout is that of a check where neither call nor configuration says one.
const usualTimeout = 10 * time.Minute

// BootTest is the operation boot_test().
func BootTest(d Defaults) lang.Operation {
	return lang.Operation{
		Name: "boot_test",
		Doc: `a machine that is started, and checked

Building the target starts the machine in QEMU, runs the checks one after the other, and
ends the machine; what it wrote is thrown away. A check that fails fails the step, as a script does that
fails: the log has all that the console said. The outputs lie together in a directory:
"report", a JSON document with how each check went, and "console", what the first serial line
said, byte for byte.

A test whose machine, checks and QEMU are as they were is not run again. It counts by what the
machine is made of, not by where it lies; the time limit counts nothing.

Checks are dicts, which the functions of @b9//test.star make: wait_console, run, unit_active,
port_open, has_file, http, reboot, poweroff, kernel_log_clean. A command gets into the machine
through QEMU's guest agent (Debian package qemu-guest-agent) where it has one, else by ssh as
root, with a key that systemd of the machine gets as a credential; the log says which.

While QEMU waits for a processor of this host that others have, the time of a check stands
still, so that a host with much to do makes a test slow and not red.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "vm", Type: lang.File | lang.Group, Required: true, Doc: "the machine: what vm() of @b9//vm.star, or virtual_machine(), returned, or its label"},
			{Name: "checks", Type: lang.ListOf(lang.Value), Required: true, Doc: `what is checked, in this order: dicts, as the functions of @b9//test.star return them`},
			{Name: "network", Type: lang.String, Default: starlark.String("none"), Enum: []string{"none", "user"}, Doc: `"none": the machine's network has no way out; "user": it has one, and what is there is in no key`},
			{Name: "timeout", Type: lang.String | lang.Int, Doc: `how long each check may take, such as "90s", "10m", or in seconds (default: vm.timeout)`},
		},
		Example: `boot_test(name = "boots", vm = ":web", checks = [wait_console("login:"), unit_active("nginx"), http("/")])`,
		Make:    func(c *lang.Call) (lang.Step, error) { return bootTestStep(c, d) },
	}
}

// bootTest starts the machine of the role "vm/machine", whose files have the roles
// "vm/disk0" and so on, and checks it.
type bootTest struct {
	Checks []trial.Check
	Open   bool `param:"network"`

	Timeout time.Duration `key:"-"` // a machine can't see it, and a check that runs into it fails, which is not kept
	Memory  int64         `key:"-"` // bytes, as the description says
	CPUs    int           `key:"-"`
}

// Kind implements engine.Action.
func (*bootTest) Kind() string { return "boot_test/1" }

// Tools implements engine.Tooled.
func (*bootTest) Tools() []engine.Tool { return qemu.Tools() }

// Limits implements engine.Limited.
func (b *bootTest) Limits() (memory int64, cpus float64) { return b.Memory, float64(b.CPUs) }

// vmRole is the role of the machine; each of its outputs has one of its own below it.
const vmRole = "vm"

func bootTestStep(c *lang.Call, d Defaults) (lang.Step, error) {
	b := &bootTest{Open: c.String("network") == "user", Timeout: c.Duration("timeout")}
	if !c.Given("name") {
		c.Errorf("a test needs a name")
	}
	if b.Timeout == 0 {
		b.Timeout = d.Timeout
	}
	if b.Timeout == 0 {
		b.Timeout = usualTimeout
	}
	if d.Slower > 0 {
		b.Timeout = time.Duration(float64(b.Timeout) * d.Slower)
	}
	for i, v := range c.Elements("checks") {
		check, err := readCheck(v)
		if err != nil {
			c.Errorf("checks: element %d: %w", i, err)
			continue
		}
		b.Checks = append(b.Checks, check)
	}
	if !c.Failed() {
		if err := trial.Valid(b.Checks); err != nil {
			c.Errorf("checks: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
	return lang.Step{
		Action: b, Finish: b.finish,
		Inputs: []lang.StepInput{{Role: vmRole, From: c.Input("vm")}},
		// Each run takes another time, and says so.
		Outputs: []engine.Output{
			{Name: "report", Kind: store.File, Ext: "json", Beneath: true, ByKey: true},
			{Name: "console", Kind: store.File, Ext: "log", Beneath: true, ByKey: true},
		},
	}, nil
}

// readCheck reads a check as the functions of @b9//test.star make it.
func readCheck(v starlark.Value) (trial.Check, error) {
	dict, ok := v.(*starlark.Dict)
	if !ok {
		return trial.Check{}, fmt.Errorf("want a check, as the functions of @b9//test.star return it, got %s", v.Type())
	}
	var c trial.Check
	fields := map[string]any{
		"name": &c.Name, "check": &c.Kind, "pattern": &c.Pattern, "argv": &c.Argv, "status": &c.Status, "retry": &c.Retry, "port": &c.Port, "path": &c.Path,
	}
	for key, value := range dict.Entries() {
		name, _ := starlark.AsString(key)
		to, ok := fields[name]
		if !ok {
			return c, fmt.Errorf("%s is nothing that a check has", key)
		}
		if err := readField(to, value); err != nil {
			return c, fmt.Errorf("%s: %w", name, err)
		}
	}
	return c, nil
}

func readField(to any, v starlark.Value) error {
	var ok bool
	switch to := to.(type) {
	case *string:
		if *to, ok = starlark.AsString(v); ok {
			return engine.CheckText("the text", *to)
		}
		return fmt.Errorf("want string, got %s", v.Type())
	case *bool:
		b, ok := v.(starlark.Bool)
		if *to = bool(b); ok {
			return nil
		}
		return fmt.Errorf("want bool, got %s", v.Type())
	case *int:
		if err := starlark.AsInt(v, to); err != nil {
			return fmt.Errorf("want int, got %s", v)
		}
	case *[]string:
		list, ok := v.(starlark.Indexable)
		if _, text := v.(starlark.String); text || !ok {
			return fmt.Errorf("want list of strings, got %s", v.Type())
		}
		for i := range list.Len() {
			var word string
			if err := readField(&word, list.Index(i)); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			*to = append(*to, word)
		}
	}
	return nil
}

// finish takes of the machine what it is started from.
func (b *bootTest) finish(l *lang.Linked) error {
	ref, ok := l.Ref(vmRole + "/machine")
	if !ok {
		return errors.New("vm: it is no machine: give what vm() of @b9//vm.star returned, as a whole")
	}
	done := *b
	if made, ok := ref.Node.Action().(*makeMachine); ok {
		done.Memory, done.CPUs = made.Machine.Memory, made.Machine.CPUs
		for i := range b.Checks {
			if b.Checks[i].Network() && len(made.Machine.NICs) == 0 {
				return fmt.Errorf("%s: %s has no network card", b.Checks[i].Name, ref.Node.Label())
			}
		}
	}
	var needed []engine.Input
	for _, in := range l.Inputs {
		if in.Role != vmRole+"/start" && in.Role != vmRole+"/domain" {
			needed = append(needed, in)
		}
	}
	l.Action, l.Inputs = &done, needed
	return nil
}

// maxDescription bounds the description of a machine, in bytes.
const maxDescription = 1 << 20

// Run implements engine.Action.
func (b *bootTest) Run(ctx context.Context, job *engine.Job) error {
	m, err := b.machine(ctx, job)
	if err != nil {
		return err
	}
	accel, slow := qemu.Accelerator(ctx)
	if slow != "" {
		job.Logf("b9: %s", slow)
	}
	console, err := os.Create(job.Output("console"))
	if err != nil {
		return err
	}
	picture := filepath.Join(job.Dir(), "screen.png")
	report, err := trial.Run(ctx, m, b.Checks, trial.Options{
		Accel: accel, Scratch: job.Dir(), Open: b.Open, Limit: b.Timeout, Log: job.Log(), Console: console, Screenshot: picture,
	})
	err = errors.Join(err, console.Close())
	if report == nil {
		return err
	}
	data, derr := report.Document()
	if derr == nil {
		derr = os.WriteFile(job.Output("report"), data, 0o644)
	}
	if _, nerr := os.Stat(picture); err != nil && nerr == nil {
		job.Logf("b9: what the screen showed is kept beside this log, as %s", filepath.Base(picture))
	}
	return errors.Join(err, derr)
}

// machine is the machine with its files where the job has them.
func (b *bootTest) machine(ctx context.Context, job *engine.Job) (*vm.Machine, error) {
	data, err := job.Input(vmRole + "/machine").ReadAll(maxDescription)
	if err != nil {
		return nil, err
	}
	m, err := vm.ReadDocument(data)
	if err != nil {
		return nil, err
	}
	at := map[string]string{}
	for _, file := range m.Files() {
		name, _, _ := strings.Cut(filepath.Base(file), ".")
		x, err := job.Expose(ctx, vmRole+"/"+name)
		if err != nil {
			return nil, err
		}
		at[file] = x.Path
	}
	return m.At(func(file string) string { return at[file] }), nil
}
