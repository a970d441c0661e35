package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/guest"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/vm"
	"b9.build/b9/engine/vm/qemu"
)

// registerMachine adds the flags of run that are for machines. --display has two
// meanings, of which each value says which it is.
func registerMachine(cmd *cobra.Command, o *guest.Options) {
	fl := cmd.Flags()
	fl.BoolVar(&o.Machine, "machine", false, "start the disk that the target is as a machine of its own; an image file is one anyway")
	fl.StringVar(&o.Firmware, "firmware", "", "start the machine by `NAME`: "+strings.Join(vm.Firmwares(), ", ")+" (default: the machine's own, or what finds a loader on the disk)")
	fl.BoolVar(&o.SSH, "ssh", false, "get into the machine through ssh, with a key made for this run")
	fl.StringArrayVar(&o.Forward, "forward", nil, "lend a port of this machine's loopback to one of the guest, as `HOST:GUEST`, such as 8080:80 (may be repeated)")
	fl.BoolVar(&o.Snapshot, "snapshot", false, "throw away what the machine writes (that is the default)")
	fl.BoolVar(&o.Persist, "persist", false, "keep what the machine writes, beside the results")
	fl.BoolVar(&o.DryRun, "dry-run", false, "print the command line of QEMU, and start nothing")
	fl.BoolVar(&o.GDB, "gdb", false, "hold the machine until a debugger continues it")
	fl.StringVar(&o.Screenshot, "screenshot", "", "write what the screen shows at the end to `FILE.png`")
	shown := fl.Lookup("display")
	shown.Value = &displays{shown.Value, &o.Screen}
	shown.Usage += "; or the screen of a machine: " + strings.Join(qemu.Screens(), ", ")
	for name, more := range map[string]string{
		"network": "; of a machine user, none or bridge:NAME",
		"share":   "; with a machine as DIR, DIR:TAG or DIR:TAG:ro",
		"user":    "; with --ssh of the machine",
	} {
		fl.Lookup(name).Usage += more
	}
}

// displays is the value of --display.
type displays struct {
	progress interface {
		Set(string) error
		String() string
		Type() string
	}
	screen *string
}

// Set implements pflag.Value.
func (d *displays) Set(text string) error {
	if slices.Contains(qemu.Screens(), text) {
		*d.screen = text
		return nil
	}
	return d.progress.Set(text)
}

// String implements pflag.Value.
func (d *displays) String() string { return d.progress.String() }

// Type implements pflag.Value.
func (d *displays) Type() string { return d.progress.Type() }

// isMachine reports whether a target is a machine, and not one output of one.
func isMachine(t *lang.Target) bool { return t.Builtin == "virtual_machine" && len(t.Refs) > 1 }

// hasMachine reports whether the first target is a machine.
func hasMachine(g *lang.Graph) bool { return len(g.Targets) > 0 && isMachine(g.Targets[0]) }

// maxDescription bounds the description of a machine, in bytes.
const maxDescription = 1 << 20

// bootTarget starts the machine that a target is.
func bootTarget(ctx context.Context, s *session.Session, b *Built, argv []string, in entering, o guest.Options) error {
	t := b.Graph.Targets[0]
	files := &machineFiles{session: s, title: t.String(), parts: map[string]part{}}
	var document *engine.Artifact
	for _, ref := range t.Refs {
		art := b.Result.Artifact(ref)
		if files.parts[ref.Output] = (artifact{art}); ref.Output == "machine" {
			document = art
		}
	}
	data, err := document.ReadAll(maxDescription)
	if err != nil {
		return err
	}
	if files.machine, err = vm.ReadDocument(data); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	dir := files.machine.Name
	if list := t.Placements(); len(list) > 0 {
		dir = path.Dir(list[0].Path)
	}
	files.results = filepath.Join(s.ResultsDir(), filepath.FromSlash(dir))
	files.kept = files.results + ".kept"
	return files.boot(ctx, argv, in, o)
}

// forMachine refuses what makes no sense with a machine.
func (e *entering) forMachine(title string, o guest.Options, argv []string) error {
	switch {
	case len(argv) > 0 && !o.SSH:
		return exit.Usagef("%s is a machine: a command is run in it with --ssh", title)
	case len(e.env) > 0:
		return exit.Usagef("--env is for commands in an image, and %s is a machine", title)
	case e.subvolume != "" || e.cwd != cwdMount:
		return exit.Usagef("--cwd and --subvolume are for commands in an image, and %s is a machine", title)
	case e.user != "" && !o.SSH:
		return exit.Usagef("--user is for commands: with a machine it needs --ssh")
	}
	return nil
}

// part is a file of a machine.
type part interface {
	Expose(context.Context) (*engine.Exposed, error)
	Fork(ctx context.Context, dst string) error
	origin() string // which content it is
}

// artifact is a part that was built.
type artifact struct{ *engine.Artifact }

func (a artifact) origin() string { return a.Digest().String() }

// machineFiles gives the files of a machine paths.
type machineFiles struct {
	session *session.Session
	title   string // for messages
	machine *vm.Machine
	parts   map[string]part // by the file's name without its extension
	results string          // the directory where builds place them; "" if they lie where they are
	kept    string          // the directory of those that keep what the machine writes
	exposed []*engine.Exposed
}

// boot starts the machine.
func (f *machineFiles) boot(ctx context.Context, argv []string, in entering, o guest.Options) (err error) {
	if err := errors.Join(in.forMachine(f.title, o, argv), o.Check(f.session)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	g, err := f.placed(ctx, o)
	if err != nil {
		return fmt.Errorf("%s: %w", f.title, err)
	}
	return guest.Run(ctx, f.session, g, o, argv)
}

func (f *machineFiles) close() error {
	var errs []error
	for _, x := range f.exposed {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// partOf is the output that a file of the machine is.
func partOf(file string) string { return strings.TrimSuffix(file, path.Ext(file)) }

// placed chooses where the machine's files are: those in the store, which nobody writes;
// those beside the results, for a command line that outlives b9; or copies of its own.
func (f *machineFiles) placed(ctx context.Context, o guest.Options) (guest.Machine, error) {
	g := guest.Machine{Title: f.title}
	if o.Persist {
		dir, err := f.keep(ctx)
		g.Machine, g.Keep = f.machine.In(dir), dir
		return g, err
	}
	if _, err := os.Stat(f.results); o.DryRun && err == nil {
		g.Machine = f.machine.In(f.results)
		return g, nil
	}
	at := map[string]string{}
	for _, file := range f.machine.Files() {
		x, err := f.parts[partOf(file)].Expose(ctx)
		if err != nil {
			return g, err
		}
		f.exposed = append(f.exposed, x)
		at[file] = x.Path
	}
	g.Machine = f.machine.At(func(file string) string { return at[file] })
	return g, nil
}

// originFile says what a kept machine was made of.
const originFile = "origin"

// keep makes the copies of a machine that keeps what it writes, the first time, and
// returns their directory. They stay as they are when the target is built anew: what the
// machine wrote fits these disks only.
func (f *machineFiles) keep(ctx context.Context) (string, error) {
	dir, origin := f.kept, f.origin()
	if err := f.plain(dir); err != nil {
		return "", err
	}
	was, err := os.ReadFile(filepath.Join(dir, originFile))
	switch {
	case err == nil && string(was) != origin:
		f.session.Console.Warn("%s was changed since its machine was kept, which goes on with what it has: remove %s to begin anew", f.title, f.session.Relative(dir))
		return dir, nil
	case err == nil || !errors.Is(err, os.ErrNotExist):
		return dir, err
	}
	err = makeWhole(dir, originFile, func(fresh string) error {
		for _, file := range f.machine.Files() {
			if err := f.parts[partOf(file)].Fork(ctx, filepath.Join(fresh, file)); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(fresh, originFile), []byte(origin), 0o600)
	})
	if err == nil {
		f.session.Tell("%s keeps what it writes in %s", f.title, f.session.Relative(dir))
	}
	return dir, err
}

// plain refuses a kept directory in which QEMU could be led to other files: by links, or by
// images that stand on others, such as an archive from strangers may bring along.
func (f *machineFiles) plain(dir string) error {
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Type()&^fs.ModeSocket != 0 {
			return fmt.Errorf("%s is no plain file: what a machine keeps is in files of its own", name)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, d := range f.machine.Disks {
		if err != nil {
			return err
		}
		var img disk.Image
		if img, err = disk.Open(filepath.Join(dir, d.File), d.Format, disk.OpenOptions{}); err == nil {
			err = img.Close()
		}
	}
	return err
}

// makeWhole makes a directory with a file last in it, which gets its name once fill has
// filled it. What a process left that ended before is removed, and while another one fills it
// that is an error. The lock is the directory's own, and goes with it to its name, so that
// who gets it afterwards finds last there.
func makeWhole(dir, last string, fill func(fresh string) error) error {
	fresh := dir + ".new"
	if err := os.MkdirAll(filepath.Dir(fresh), 0o777); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if st, err := os.Lstat(fresh); err != nil || !st.IsDir() {
		return cmp.Or(err, fmt.Errorf("%s is in the way: remove it", fresh))
	}
	lock, err := store.TryLockFile(fresh, os.O_RDONLY)
	if err != nil {
		return fmt.Errorf("another b9 makes %s: %w", dir, err)
	}
	defer lock.Close()
	if _, err := os.Lstat(filepath.Join(dir, last)); err == nil {
		_ = os.Remove(fresh) // empty, or another process's
		return nil
	}
	left, err := os.ReadDir(fresh)
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(fresh, e.Name())))
	}
	if err == nil {
		err = fill(fresh)
	}
	if err == nil {
		err = os.Rename(fresh, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	return nil
}

// origin tells what the machine is made of.
func (f *machineFiles) origin() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(f.parts)) {
		fmt.Fprintf(&b, "%s %s\n", name, f.parts[name].origin())
	}
	return b.String()
}
