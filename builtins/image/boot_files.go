package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/efi"
	"b9.build/b9/engine/fsys/tree"
)

// BootFiles is the operation boot_files().
func BootFiles() lang.Operation {
	return lang.Operation{
		Name: "boot_files",
		Doc: `what a boot loader needs to start the system in an image, as a directory

Kernels, their initrds and the loader are found in the image, which b9 reads itself, and
each kernel gets an entry, the newest first. bootable() of @b9//boot.star makes a disk of
it. What the directory holds depends on the loader:

systemd-boot: an EFI system partition with EFI/BOOT/BOOTX64.EFI (or that of another
machine), loader/loader.conf, and for each kernel loader/entries/ID-VERSION.conf and
ID/VERSION with linux and initrd, as the Boot Loader Specification has them.

uki: the same with EFI/Linux/ID-VERSION.efi, a unified kernel image for each kernel.

grub: grub.cfg, which starts the kernels where they are in the image, memdisk.tar with
that file, and early.cfg, with which grub-mkimage makes a core image that reads it.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the root file system, with a kernel and a loader"},
			{Name: "loader", Type: lang.String, Default: starlark.String("systemd-boot"), Enum: []string{"systemd-boot", "uki", "grub"}, Doc: `"systemd-boot", "uki" or "grub"`},
			{Name: "cmdline", Type: lang.String | lang.File, Required: true, Doc: "the kernel's command line, such as root=PARTUUID=... ro: text, or the handle of a file that a step makes"},
			{Name: "timeout", Type: lang.Int, Min: 0, Max: 3600, Doc: "seconds for which the menu is shown (default 0: only for a key that is held)"},
			{Name: "initrd", Type: lang.Bool, Default: starlark.True, Doc: "every kernel needs an initrd; False is for those that have their drivers built in"},
			{Name: "serial", Type: lang.Bool, Doc: "GRUB shows its menu on the first serial port, too"},
			lang.NameParam(),
		},
		Example: `boot_files(":root", loader = "uki", cmdline = "root=LABEL=root ro", name = "esp")`,
		Make:    bootFilesStep,
	}
}

func bootFilesStep(c *lang.Call) (lang.Step, error) {
	in, text := commandLine(c)
	b := &bootFiles{Loader: c.String("loader"), CommandLine: text, Timeout: c.Int("timeout"), NoInitrd: !c.Bool("initrd"), Serial: c.Bool("serial")}
	if b.Serial && b.Loader != "grub" {
		c.Errorf("serial is for grub: firmware of UEFI has a console of its own")
	}
	return lang.Step{
		Action: b, Outputs: lang.OneTree(),
		Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}, {Role: "cmdline", From: in}},
		Finish: func(l *lang.Linked) error { return rawImages(l, "image") },
	}, nil
}

// bootFiles writes the files of a boot loader for the system in the raw image of the
// role "image". The role "cmdline" comes before CommandLine.
type bootFiles struct {
	Loader      string
	CommandLine string `param:"cmdline"`
	Timeout     int64  // seconds
	NoInitrd    bool   `param:"initrd,not"`
	Serial      bool
}

// Kind implements engine.Action.
func (*bootFiles) Kind() string { return "boot-files/1" }

// Run implements engine.Action.
func (b *bootFiles) Run(ctx context.Context, job *engine.Job) error {
	text, err := readCommandLine(job, b.CommandLine)
	if err != nil {
		return err
	}
	return readFiles(ctx, job, "image", func(r tree.Reader) (err error) {
		s, err := findSystem(ctx, r, !b.NoInitrd)
		if err != nil {
			return err
		}
		for _, k := range s.kernels {
			job.Logf("kernel %s: /%s, initrd %s", k.version, k.path, k.initrd)
		}
		w, err := newBootWriter(ctx, r, job.Output(""))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.root.Close()) }()
		switch b.Loader {
		case "grub":
			err = w.grub(s, text, b)
		case "uki":
			err = errors.Join(w.systemdBoot(s, b.Timeout), w.unified(s, text))
		default:
			err = errors.Join(w.systemdBoot(s, b.Timeout), w.entries(s, text))
		}
		if err != nil {
			return err
		}
		return w.seal(job)
	})
}

// bootWriter writes files into a new directory.
type bootWriter struct {
	ctx  context.Context
	r    tree.Reader
	dir  string
	root *os.Root
}

func newBootWriter(ctx context.Context, r tree.Reader, dir string) (*bootWriter, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &bootWriter{ctx, r, dir, root}, err
}

// write makes a file of what is read from in.
func (w *bootWriter) write(name string, in io.Reader) error {
	if _, err := mkdirs(w.root, path.Dir(name), nil); err != nil {
		return err
	}
	out, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, engine.Interruptible(w.ctx, in))
	return errors.Join(err, out.Chmod(0o644), out.Close())
}

func (w *bootWriter) text(name, text string) error { return w.write(name, strings.NewReader(text)) }

// copy makes a file of one of the image.
func (w *bootWriter) copy(name, from string) error {
	in, err := w.r.Open(from)
	if err != nil {
		return err
	}
	return errors.Join(w.write(name, in), in.Close())
}

// seal gives everything the build's time.
func (w *bootWriter) seal(job *engine.Job) error {
	return fs.WalkDir(w.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return w.root.Chtimes(name, job.Epoch(), job.Epoch())
	})
}

// systemdBoot writes systemd-boot under the name that firmware looks for.
func (w *bootWriter) systemdBoot(s *bootSystem, timeout int64) error {
	loader := "usr/lib/systemd/boot/efi/systemd-boot" + s.machine + ".efi"
	if _, err := w.r.Stat(loader); err != nil {
		return missingLoader(loader, err)
	}
	return errors.Join(
		w.copy("EFI/BOOT/BOOT"+strings.ToUpper(s.machine)+".EFI", loader),
		w.text("loader/loader.conf", fmt.Sprintf("timeout %d\n", timeout)),
	)
}

func missingLoader(file string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return fmt.Errorf("the image has no /%s: install systemd-boot-efi (Debian, Ubuntu), systemd-boot-unsigned (Fedora) or systemd (Arch)", file)
}

// entries writes kernels and initrds, and a file about each.
func (w *bootWriter) entries(s *bootSystem, cmdline string) error {
	for _, k := range s.kernels {
		dir := s.id + "/" + k.version
		text := fmt.Sprintf("title %s\nversion %s\nsort-key %s\nlinux /%s/linux\n", s.title, k.version, s.id, dir)
		if err := w.copy(dir+"/linux", k.path); err != nil {
			return err
		}
		if k.initrd != "" {
			text += "initrd /" + dir + "/initrd\n"
			if err := w.copy(dir+"/initrd", k.initrd); err != nil {
				return err
			}
		}
		if err := w.text("loader/entries/"+s.id+"-"+k.version+".conf", text+"options "+cmdline+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// unified writes an image for each kernel.
func (w *bootWriter) unified(s *bootSystem, cmdline string) error {
	stub := "usr/lib/systemd/boot/efi/linux" + s.machine + ".efi.stub"
	if _, err := w.r.Stat(stub); err != nil {
		return missingLoader(stub, err)
	}
	if _, err := mkdirs(w.root, "EFI/Linux", nil); err != nil {
		return err
	}
	for _, k := range s.kernels {
		if err := w.unify(k, stub, "EFI/Linux/"+s.id+"-"+k.version+".efi", cmdline); err != nil {
			return fmt.Errorf("kernel %s: %w", k.version, err)
		}
	}
	return nil
}

func (w *bootWriter) unify(k bootKernel, stub, name, cmdline string) (err error) {
	u := ukiParts{cmdline: cmdline, uname: k.version}
	var open []io.Closer
	defer func() {
		for _, c := range open {
			err = errors.Join(err, c.Close())
		}
	}()
	part := func(name string) *ukiPart {
		f, info, ferr := openRegular(w.r, name)
		if ferr != nil {
			err = errors.Join(err, ferr)
			return nil
		}
		open = append(open, f)
		return &ukiPart{f.(io.ReaderAt), info.Size()} // as package tree says of a Reader
	}
	u.kernel, u.stub = part(k.path), part(stub)
	if k.initrd != "" {
		if p := part(k.initrd); p != nil {
			u.initrds = append(u.initrds, *p)
		}
	}
	if _, serr := w.r.Stat("etc/os-release"); serr == nil {
		u.osRelease = part("etc/os-release")
	}
	if err != nil {
		return err
	}
	return u.write(w.ctx, w.dir+"/"+name)
}

func openRegular(r tree.Reader, name string) (fs.File, fs.FileInfo, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("/%s is no file", name)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// grub writes the configuration of a core image that has the image's partition as its
// root: the core reads early.cfg, which has the menu in memdisk.tar shown.
func (w *bootWriter) grub(s *bootSystem, cmdline string, b *bootFiles) error {
	if s.machine != "x64" && s.machine != "ia32" {
		return fmt.Errorf("GRUB starts by BIOS on x86 alone, and the kernel is for %s", s.machine)
	}
	if _, err := w.r.Stat("usr/lib/grub/i386-pc/boot.img"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("the image has no /usr/lib/grub/i386-pc/boot.img: install grub-pc-bin (Debian, Ubuntu), grub2-pc-modules and grub2-tools (Fedora) or grub (Arch)")
		}
		return err
	}
	menu := fmt.Sprintf("set timeout=%d\nset timeout_style=hidden\n", b.Timeout)
	if b.Timeout > 0 {
		menu = fmt.Sprintf("set timeout=%d\n", b.Timeout)
	}
	if b.Serial {
		menu += "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n"
	}
	for _, k := range s.kernels {
		menu += fmt.Sprintf("menuentry %s {\n\tlinux %s %s\n", grubQuote(s.title+", Linux "+k.version), grubQuote("/"+k.path), cmdline)
		if k.initrd != "" {
			menu += "\tinitrd " + grubQuote("/"+k.initrd) + "\n"
		}
		menu += "}\n"
	}
	disk, err := tarOf("grub.cfg", menu)
	if err != nil {
		return err
	}
	return errors.Join(w.text("grub.cfg", menu), w.write("memdisk.tar", bytes.NewReader(disk)), w.text("early.cfg", "normal (memdisk)/grub.cfg\n"))
}

// grubQuote quotes a word for GRUB's shell.
func grubQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tarOf is an archive with one file.
func tarOf(name, text string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatUSTAR})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	err = errors.Join(err, w.Close())
	return b.Bytes(), err
}

// inspectFile reads the head of a program in an image.
func inspectFile(r tree.Reader, name string) (efi.Info, error) {
	f, _, err := openRegular(r, name)
	if err != nil {
		return efi.Info{}, err
	}
	info, err := efi.Inspect(f.(io.ReaderAt))
	return info, errors.Join(err, f.Close())
}
