// Package machine holds the operations on machines: virtual_machine(), which makes one of
// disks: its description, a description for libvirt, and a script that starts it; and
// boot_test(), which starts one and checks it.
//
//	Operation  virtual_machine(), for the table of operations; BootTest, boot_test()
//	Actions    their actions by kind
package machine

import (
	"context"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/vm"
)

// Actions is the table of actions of this package by kind.
func Actions() engine.Actions {
	return engine.Actions{
		"virtual_machine/2": func() engine.Action { return &makeMachine{} },
		"boot_test/1":       func() engine.Action { return &bootTest{} },
	}
}

// Operation is the operation virtual_machine().
func Operation() lang.Operation {
	return lang.Operation{
		Name: "virtual_machine",
		Doc: `a machine: its disks, a description for libvirt, and a script that starts it

The outputs lie together in a directory: "start", a script that starts the machine with QEMU
alone; "domain", a description for libvirt whose files are named below directory; "machine",
what b9 reads; "disk0", "disk1" and so on; "seed", "kernel", "initrd", and "share0", "share1" and so on where
they are given. vm() of @b9//vm.star is the same with fewer words.

A disk whose name ends in .iso is a CD, where the controller has CDs. Where the root file
system of a disk shows which drivers its kernels have, and none of them has one for the
disk's controller, the machine is refused.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "disks", Type: lang.ListOf(lang.File), Doc: "disks in the order in which the firmware tries them, in a format that QEMU and libvirt know: " + strings.Join(vm.DiskFormats(), ", ")},
			{Name: "seed", Type: lang.File, Doc: "an ISO image for a drive of its own, such as that of cloud_init()"},
			{Name: "kernel", Type: lang.File, Doc: "a kernel that is started without the disks' boot loader"},
			{Name: "initrd", Type: lang.File, Doc: "its initial root file system"},
			{Name: "cmdline", Type: lang.String, Doc: "its command line"},
			{Name: "memory", Type: lang.Size, Default: starlark.String("1G"), Doc: "memory, in whole MiB"},
			{Name: "cpus", Type: lang.Int, Default: starlark.MakeInt(1), Min: 1, Max: 255, Doc: "processors"},
			{Name: "firmware", Type: lang.String, Default: starlark.String("bios"), Enum: vm.Firmwares(), Doc: "what starts it: bios is SeaBIOS, uefi is OVMF"},
			{Name: "machine", Type: lang.String, Default: starlark.String(vm.Types()[0]), Enum: vm.Types(), Doc: "type of the machine: q35, or the older pc"},
			{Name: "controllers", Type: lang.String | lang.ListOf(lang.String), Doc: "what the disks are at, one for all or one for each: " + strings.Join(vm.Controllers(), ", ") + " (default: virtio-blk, and for a CD sata or ide, which the machine has)"},
			{Name: "nics", Type: lang.ListOf(lang.String), Default: starlark.NewList([]starlark.Value{starlark.String("virtio")}), Doc: `network cards: models, of ` + strings.Join(vm.NICModels(), ", ") + `, each with or without an address: "virtio", "e1000=52:54:00:12:34:56"`},
			{Name: "shares", Type: lang.DictOf(lang.Tree), Doc: `directories by tag, which the guest mounts and only reads: mount -t 9p -o trans=virtio TAG /mnt`},
			{Name: "secure_boot", Type: lang.Bool, Doc: "the firmware starts nothing that is not signed; it has Microsoft's keys"},
			{Name: "tpm", Type: lang.Bool, Doc: "a TPM 2.0, for which the host needs swtpm"},
			{Name: "directory", Type: lang.String, Default: starlark.String("/var/lib/libvirt/images"), Doc: "where the files lie on the host of libvirt, a directory called like the machine below it"},
		},
		Example: `virtual_machine(name = "web", disks = [":disk"], memory = "2G", firmware = "uefi")`,
		Make:    makeStep,
	}
}

// makeMachine makes a machine of the inputs "disk0", "disk1" and so on, "seed", "kernel",
// "initrd", and "share0" and so on.
type makeMachine struct {
	Machine   vm.Machine
	Directory string
	Check     []string `param:"disks"` // format of each disk as b9 reads it, whose root file system is looked at
}

// Kind implements engine.Action.
func (*makeMachine) Kind() string { return "virtual_machine/2" }

func makeStep(c *lang.Call) (lang.Step, error) {
	a := &makeMachine{Directory: path.Clean(c.String("directory")), Machine: vm.Machine{
		Name: c.String("name"), Memory: c.Size("memory"), CPUs: int(c.Int("cpus")), Type: c.String("machine"),
		Firmware: c.String("firmware"), SecureBoot: c.Bool("secure_boot"), TPM: c.Bool("tpm"), Cmdline: c.String("cmdline"),
	}}
	if !c.Given("name") {
		c.Errorf("a machine needs a name")
	}
	if !path.IsAbs(a.Directory) {
		c.Errorf("directory: %q is no absolute path", a.Directory)
	}
	s := lang.Step{Action: a, Outputs: []engine.Output{
		{Name: "start", Kind: store.File, Ext: "sh", Mode: 0o755, Beneath: true},
		{Name: "domain", Kind: store.File, Ext: "xml", Beneath: true},
		{Name: "machine", Kind: store.File, Ext: "json", Beneath: true},
	}}
	a.addDisks(c, &s)
	a.addNICs(c)
	for role, at := range a.files() {
		if in := c.Input(role); !in.IsZero() {
			*at = role + extOf(role)
			s.Inputs = append(s.Inputs, lang.StepInput{Role: role, From: in})
			s.Outputs = append(s.Outputs, engine.Output{Name: role, Kind: store.File, Ext: strings.TrimPrefix(extOf(role), "."), Beneath: true})
		}
	}
	for _, e := range c.Entries("shares") {
		role := "share" + strconv.Itoa(len(a.Machine.Shares))
		a.Machine.Shares = append(a.Machine.Shares, vm.Share{Tag: e.Key, Dir: role})
		s.Inputs = append(s.Inputs, lang.StepInput{Role: role, From: c.Operand(e.Value, lang.Tree, "shares")})
		s.Outputs = append(s.Outputs, engine.Output{Name: role, Kind: store.Tree, Beneath: true})
	}
	slices.SortFunc(s.Inputs, func(x, y lang.StepInput) int { return strings.Compare(x.Role, y.Role) })
	slices.SortFunc(s.Outputs[3:], func(x, y engine.Output) int { return strings.Compare(x.Name, y.Name) })
	s.Finish = a.finish
	return s, nil
}

// roles are the inputs, which are outputs, too.
func (a *makeMachine) roles() []string {
	var roles []string
	for i := range a.Machine.Disks {
		roles = append(roles, "disk"+strconv.Itoa(i))
	}
	for _, role := range []string{"seed", "kernel", "initrd"} {
		if *a.files()[role] != "" {
			roles = append(roles, role)
		}
	}
	for _, s := range a.Machine.Shares {
		roles = append(roles, s.Dir)
	}
	return roles
}

// files are the inputs that are a file of the machine, and where their names go.
func (a *makeMachine) files() map[string]*string {
	return map[string]*string{"seed": &a.Machine.Seed, "kernel": &a.Machine.Kernel, "initrd": &a.Machine.Initrd}
}

func extOf(role string) string {
	if role == "seed" {
		return ".iso"
	}
	return ""
}

// addDisks adds the disks at their controllers. Formats are known when the step is linked.
func (a *makeMachine) addDisks(c *lang.Call, s *lang.Step) {
	inputs, names := c.Inputs("disks"), c.Strings("controllers")
	_, list := c.Value("controllers").(starlark.Indexable)
	if _, text := c.Value("controllers").(starlark.String); list && !text && len(names) != len(inputs) {
		c.Errorf("controllers: there are %d for %d disks: give one for all, or one for each", len(names), len(inputs))
		return
	}
	for i, in := range inputs {
		d := vm.Disk{File: "disk" + strconv.Itoa(i), Format: "raw"}
		switch {
		case len(names) == 1:
			d.Controller = names[0]
		case len(names) > i:
			d.Controller = names[i]
		}
		a.Machine.Disks = append(a.Machine.Disks, d)
		s.Inputs = append(s.Inputs, lang.StepInput{Role: d.File, From: in})
		s.Outputs = append(s.Outputs, engine.Output{Name: d.File, Kind: store.File, Beneath: true})
	}
	a.Check = make([]string, len(inputs))
}

func (a *makeMachine) addNICs(c *lang.Call) {
	for _, text := range c.Strings("nics") {
		model, mac, _ := strings.Cut(text, "=")
		a.Machine.NICs = append(a.Machine.NICs, vm.NIC{Model: model, MAC: mac})
	}
}

// finish decides the formats of the disks, and which of them are CDs.
func (a *makeMachine) finish(l *lang.Linked) error {
	done := *a
	done.Machine.Disks, done.Check = slices.Clone(a.Machine.Disks), slices.Clone(a.Check)
	l.Outputs = slices.Clone(l.Outputs)
	for i := range done.Machine.Disks {
		d := &done.Machine.Disks[i]
		role := d.File
		out, _ := l.Output(role)
		format, err := image.InputFormat(l, role, "")
		if err != nil {
			return err
		}
		d.Format, done.Check[i] = format, format
		ext := format
		if out.Ext == "iso" {
			ext = out.Ext
		}
		atController(d, ext == "iso", done.Machine.Type)
		d.File += "." + ext
		at := slices.IndexFunc(l.Outputs, func(o engine.Output) bool { return o.Name == role })
		l.Outputs[at].Ext = ext
	}
	l.Action = &done
	if err := done.Machine.Check(); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}

// atController puts a disk to the usual controller if the call names none, a CD to one
// that every machine of that type has.
func atController(d *vm.Disk, cd bool, machine string) {
	d.CD = cd && (d.Controller == "" || vm.HasCD(d.Controller))
	switch {
	case d.Controller != "":
	case !d.CD:
		d.Controller = vm.Controllers()[0]
	case machine == "pc":
		d.Controller = "ide"
	default:
		d.Controller = "sata"
	}
}

// Run implements engine.Action.
func (a *makeMachine) Run(ctx context.Context, job *engine.Job) error {
	if err := a.checkDrivers(ctx, job); err != nil {
		return err
	}
	for _, in := range a.roles() {
		if err := job.Input(in).Fork(ctx, job.Output(in)); err != nil {
			return err
		}
	}
	description, err := a.Machine.Document()
	if err != nil {
		return err
	}
	domain, err := a.Machine.Domain(path.Join(a.Directory, a.Machine.Name))
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"machine": string(description), "domain": domain, "start": a.Machine.Script()} {
		if err := os.WriteFile(job.Output(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(job.Output("start"), 0o755)
}
