package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/efi"
)

// UKI is the operation uki().
func UKI() lang.Operation {
	return lang.Operation{
		Name: "uki",
		Doc: `a unified kernel image: a program of UEFI that is a kernel with all it needs

It is a stub, such as systemd's, with sections behind its own: .osrel, .cmdline, .dtb,
.splash, .uname, .initrd and .linux, as the UAPI group's specification names them. The
same files give the same bytes. As EFI/BOOT/BOOTX64.EFI firmware starts it without a boot
loader; systemd-boot lists what is in EFI/Linux. sign_efi() signs it.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "kernel", Type: lang.File, Required: true, Doc: "the kernel, which has an EFI stub of its own, as those of distributions do"},
			{Name: "initrd", Type: lang.File | lang.ListOf(lang.File), Doc: "the initial RAM disk, or several, one after the other; none without it"},
			{Name: "cmdline", Type: lang.String | lang.File, Required: true, Doc: "the kernel's command line: text, or the handle of a file that a step makes, such as template()"},
			{Name: "stub", Type: lang.File, Required: true, Doc: `what starts the kernel: /usr/lib/systemd/boot/efi/linuxx64.efi.stub of Debian's package systemd-boot-efi`},
			{Name: "os_release", Type: lang.File, Doc: "os-release(5) of the system: what boot menus show"},
			{Name: "uname", Type: lang.String, Doc: "the kernel's version; by default what a kernel for x86 says of itself"},
			{Name: "splash", Type: lang.File, Doc: "a picture to show while the kernel starts, a BMP"},
			{Name: "devicetree", Type: lang.File, Doc: "a compiled device tree"},
			lang.NameParam(),
		},
		Example: `uki(files(root, "/boot/vmlinuz-*", pick = "newest"), name = "linux.efi",
    initrd = files(root, "/boot/initrd.img-*", pick = "newest"),
    stub = files(root, "/usr/lib/systemd/boot/efi/linuxx64.efi.stub", pick = "one"),
    cmdline = "root=LABEL=root ro console=ttyS0")`,
		Make: ukiStep,
	}
}

func ukiStep(c *lang.Call) (lang.Step, error) {
	u := &unifiedKernel{Uname: c.String("uname")}
	s := lang.Step{Action: u, Outputs: lang.OneFile("efi")}
	for _, role := range []string{"kernel", "stub", "os_release", "splash", "devicetree"} {
		s.Inputs = append(s.Inputs, lang.StepInput{Role: role, From: c.Input(role)})
	}
	initrds := c.Inputs("initrd")
	for i, in := range initrds {
		s.Inputs = append(s.Inputs, lang.StepInput{Role: initrdRole(i), From: in})
	}
	u.Initrds = len(initrds)
	in, text := commandLine(c)
	u.CommandLine = text
	s.Inputs = append(s.Inputs, lang.StepInput{Role: "cmdline", From: in})
	return s, nil
}

// commandLine is the argument cmdline: a text, or the handle of a file.
func commandLine(c *lang.Call) (in lang.Input, text string) {
	if h, ok := c.Value("cmdline").(*lang.Handle); ok {
		return c.Operand(h, lang.File, "cmdline"), ""
	}
	text, _ = starlark.AsString(c.Value("cmdline"))
	if err := checkCommandLine(text); err != nil {
		c.Errorf("cmdline: %w", err)
	}
	return lang.Input{}, text
}

// longestCommandLine is the most that Linux takes on any architecture, in bytes.
const longestCommandLine = 4096

func checkCommandLine(text string) error {
	if strings.ContainsAny(text, "\n\x00") || len(text) >= longestCommandLine {
		return fmt.Errorf("a command line is one line of less than %d bytes", longestCommandLine)
	}
	return nil
}

// readCommandLine is the command line that a step was given, without the end of a line.
func readCommandLine(job *engine.Job, text string) (string, error) {
	if !job.Has("cmdline") {
		return text, nil
	}
	text, err := lang.InputText(job, "cmdline")
	if err == nil {
		text = strings.TrimRight(text, "\n")
		err = checkCommandLine(text)
	}
	return text, err
}

func initrdRole(i int) string { return "initrd " + strconv.Itoa(i+1) }

// unifiedKernel puts the files of its roles, "kernel", "stub" and those that there are
// of the others, into one program. The role "cmdline" comes before CommandLine.
type unifiedKernel struct {
	CommandLine string `param:"cmdline"`
	Uname       string
	Initrds     int `param:"initrd"`
}

// Kind implements engine.Action.
func (*unifiedKernel) Kind() string { return "uki/1" }

// Run implements engine.Action.
func (u *unifiedKernel) Run(ctx context.Context, job *engine.Job) (err error) {
	k := ukiParts{uname: u.Uname}
	if k.cmdline, err = readCommandLine(job, u.CommandLine); err != nil {
		return err
	}
	var open []io.Closer
	defer func() {
		for _, c := range open {
			err = errors.Join(err, c.Close())
		}
	}()
	part := func(role string) *ukiPart {
		if err != nil || !job.Has(role) {
			return nil
		}
		var b engine.Blob
		if b, err = job.Input(role).Open(); err != nil {
			return nil
		}
		open = append(open, b)
		return &ukiPart{b, b.Size()}
	}
	k.kernel, k.stub, k.osRelease, k.splash, k.devicetree = part("kernel"), part("stub"), part("os_release"), part("splash"), part("devicetree")
	for i := range u.Initrds {
		if p := part(initrdRole(i)); p != nil {
			k.initrds = append(k.initrds, *p)
		}
	}
	if err != nil {
		return err
	}
	return k.write(ctx, job.Output(""))
}

// ukiPart is a file that becomes part of a unified kernel image.
type ukiPart struct {
	io.ReaderAt
	size int64
}

func (p ukiPart) reader() io.Reader { return io.NewSectionReader(p, 0, p.size) }

// ukiParts are those of one unified kernel image. All but kernel and stub may be missing.
type ukiParts struct {
	kernel, stub, osRelease, splash, devicetree *ukiPart
	initrds                                     []ukiPart
	cmdline, uname                              string
}

// write puts the parts together in a new file at dst.
func (k *ukiParts) write(ctx context.Context, dst string) error {
	kernel, err := efi.Inspect(k.kernel)
	if err != nil {
		return fmt.Errorf("the kernel is %w: it needs CONFIG_EFI_STUB", err)
	}
	stub, err := efi.Inspect(k.stub)
	if err != nil {
		return fmt.Errorf("the stub is %w", err)
	}
	if kernel.Machine != stub.Machine {
		return fmt.Errorf("the kernel is for %s, and the stub for %s", kernel.Machine, stub.Machine)
	}
	if k.uname == "" {
		k.uname = kernel.Version
	}
	return efi.Extend(ctx, dst, k.stub, k.sections(kernel.Size))
}

// sections are those behind the stub's own. The kernel comes last: an old one is
// unpacked where it lies, and takes more memory than its file has bytes.
func (k *ukiParts) sections(loaded int64) []efi.Section {
	var all []efi.Section
	add := func(name string, parts ...ukiPart) {
		var size int64
		var in []io.Reader
		for i, p := range parts {
			if size%4 != 0 { // an initrd begins at a multiple of 4 bytes
				gap := 4 - size%4
				in, size = append(in, strings.NewReader("\x00\x00\x00"[:gap])), size+gap
			}
			in, size = append(in, parts[i].reader()), size+p.size
		}
		if size > 0 {
			all = append(all, efi.Section{Name: name, Size: size, Open: func() (io.ReadCloser, error) { return io.NopCloser(io.MultiReader(in...)), nil }})
		}
	}
	file := func(name string, p *ukiPart) {
		if p != nil {
			add(name, *p)
		}
	}
	text := func(name, s string) { add(name, ukiPart{strings.NewReader(s), int64(len(s))}) }
	file(".osrel", k.osRelease)
	text(".cmdline", k.cmdline)
	file(".dtb", k.devicetree)
	file(".splash", k.splash)
	text(".uname", k.uname)
	add(".initrd", k.initrds...)
	file(".linux", k.kernel)
	linux := &all[len(all)-1]
	linux.Code, linux.Virtual = true, loaded
	return all
}
