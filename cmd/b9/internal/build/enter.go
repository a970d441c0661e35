package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/container"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
)

// cwdMount is where the current directory appears in an entered image.
const cwdMount = "/mnt/CWD"

// errNotEnterable says that a target has no root file system.
var errNotEnterable = errors.New("nothing to run in")

// rootImages lists the images of a target by mount point. A target is
// entered when it has an image for "/": its only one, or the one so named.
func rootImages(t *lang.Target) (map[string]engine.Ref, error) {
	images := map[string]engine.Ref{}
	var names []string
	for _, ref := range t.Refs {
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			return nil, err
		}
		if formatOf(t, out) == "" || BesideOverlay(t, ref) {
			continue
		}
		names = append(names, out.Name)
		at := out.Name
		if !strings.HasPrefix(at, "/") {
			at = "/"
		}
		if _, twice := images[at]; twice {
			return nil, fmt.Errorf("%s: %w: it has several images (%s), and which of them is the root file system is not said", t, errNotEnterable, strings.Join(names, ", "))
		}
		images[at] = ref
	}
	if _, ok := images["/"]; !ok {
		return nil, fmt.Errorf("%s: %w: it has no image of a root file system", t, errNotEnterable)
	}
	return images, nil
}

// formatOf is the format of an output that is an image, else "". An ISO image beside
// others is a seed or a medium to install from; one alone can be entered.
func formatOf(t *lang.Target, out engine.Output) string {
	switch f, err := disk.Lookup(out.Ext); {
	case out.Kind != store.File:
		return ""
	case err == nil:
		return f.Name()
	case out.Ext == "iso" && len(t.Refs) == 1:
		return "raw"
	}
	return ""
}

// enterTarget runs argv, or a shell, in a throw-away copy of the built target.
func enterTarget(ctx context.Context, s *session.Session, b *Built, argv []string, in entering) (err error) {
	t := b.Graph.Targets[0]
	images, err := rootImages(t)
	if err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	scratch, err := st.Scratch(t.Title + " run")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	mounts, err := throwaway(ctx, b, t, images, scratch.Dir(), s.Console.Warn)
	if err != nil {
		return err
	}
	spec := container.Spec{Mounts: withCWD(s, onSubvolume(mounts, in.subvolume)), Dir: in.cwd, Arch: t.Arch(), Env: builtins.DefaultEnv(), Hostname: "b9"}
	if err := in.addTo(s, &spec); err != nil {
		return err
	}
	if err := enter(ctx, s, spec, argv); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}
	return nil
}

// throwaway forks the images of a target into a scratch directory and
// returns their mounts.
func throwaway(ctx context.Context, b *Built, t *lang.Target, images map[string]engine.Ref, dir string, warn func(format string, args ...any)) ([]container.Mount, error) {
	var mounts []container.Mount
	for at, ref := range images {
		raw := filepath.Join(dir, fmt.Sprintf("image%d.raw", len(mounts)))
		if err := forkRaw(ctx, b, t, ref, raw); err != nil {
			return nil, err
		}
		m := container.Mount{Source: raw, Target: at, Kind: container.Image, Subvolume: builtins.Subvolume(ref)}
		backup, err := locateFS(raw, &m)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref, err)
		}
		if backup != "" {
			warn("%s: the partition table is read from its backup: %s", ref, backup)
		}
		mounts = append(mounts, m)
	}
	return mounts, nil
}

// forkRaw makes a private raw copy of an image in any format.
func forkRaw(ctx context.Context, b *Built, t *lang.Target, ref engine.Ref, dst string) error {
	art := b.Result.Artifact(ref)
	out, err := ref.Node.Declared(ref.Output)
	if err != nil {
		return err
	}
	if formatOf(t, out) == "raw" {
		return art.Fork(ctx, dst)
	}
	src, err := b.Open(ctx, ref, out.Ext)
	if err != nil {
		return err
	}
	return errors.Join(disk.Convert(ctx, src, dst, "raw", disk.WriteOptions{}), src.Close())
}

// locateFS finds the file system to mount: the whole image, or the root
// partition of a disk. It tells why a disk's table is read from its backup, if it is.
func locateFS(raw string, m *container.Mount) (backup string, err error) {
	info, err := fsys.Probe(raw, 0, 0)
	if err != nil {
		return "", err
	}
	switch info.Type {
	case "":
	case "swap":
		return "", fmt.Errorf("it is swap space, which holds no files: %w", errNotEnterable)
	default:
		m.FSType = info.Type
		return "", nil
	}
	img, err := disk.Open(raw, "raw", disk.OpenOptions{})
	if err != nil {
		return "", err
	}
	defer img.Close()
	table, err := partition.ReadTable(img, 0)
	if err != nil {
		return "", fmt.Errorf("no file system and no partition table: %w", errNotEnterable)
	}
	all := Volumes(img, table)
	for _, kinds := range [][]string{{"ext2", "ext3", "ext4"}, {"xfs", "btrfs", "f2fs", "squashfs", "erofs"}} {
		for _, v := range all {
			if slices.Contains(kinds, v.FSType) {
				m.FSType, m.Offset, m.Length = v.FSType, v.Start, v.Length
				return table.Backup, nil
			}
		}
	}
	return "", fmt.Errorf("no partition holds a Linux file system (partition() takes any of them): %w", errNotEnterable)
}

// Volume is a file system in a partition.
type Volume struct {
	*partition.Partition
	FSType string
}

// Volumes lists the file systems in the partitions of a disk, the largest first.
func Volumes(img disk.Image, table *partition.Table) []Volume {
	var all []Volume
	for i, p := range table.Partitions {
		section := disk.Section(img, p.Start, p.Length)
		if info, err := fsys.ProbeAt(section, section.Size()); err == nil && info.Type != "" && !p.Extended() {
			all = append(all, Volume{&table.Partitions[i], info.Type})
		}
	}
	slices.SortStableFunc(all, func(a, b Volume) int { return cmp.Compare(b.Length, a.Length) })
	return all
}

// enter runs a command, or a shell, with the mounts, and passes its status on.
func enter(ctx context.Context, s *session.Session, spec container.Spec, argv []string) error {
	backend, err := s.Backend(ctx)
	if err != nil {
		return err
	}
	tty, _ := s.In.(*os.File)
	if tty != nil && (!display.IsTTY(tty) || !display.IsTerminal(s.Out)) {
		tty = nil
	}
	if len(argv) == 0 {
		argv = []string{"/bin/sh"}
		if tty != nil {
			argv = []string{"/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi"}
		}
	}
	spec.Argv = argv
	spec.ID = fmt.Sprintf("b9-enter-%d", os.Getpid())
	defaults := s.ContainerDefaults()
	if err := defaults.CheckNetwork(defaults.Network); err != nil && spec.Network == "" {
		return fmt.Errorf("container.network of the configuration: %w", err)
	}
	spec = defaults.Fill(spec)
	spec.Timeout = 0
	if term := os.Getenv("TERM"); term != "" && tty != nil {
		spec.Env = append(spec.Env, "TERM="+term)
	}
	res, err := backend.Run(ctx, spec, container.IO{Stdin: s.In, Stdout: s.Out, Stderr: s.Err, TTY: tty})
	if start := (*container.StartError)(nil); errors.As(err, &start) {
		return notStarted(start)
	}
	if err != nil {
		return err
	}
	return exitOf(res)
}

// notStarted says in few words why a command did not start, which shells have
// statuses for.
func notStarted(e *container.StartError) error {
	if e.Missing {
		return &exit.Error{Status: exit.NotFound, Err: errors.New(e.Command + ": command not found in the image")}
	}
	return &exit.Error{Status: exit.CannotRun, Err: errors.New(e.Command + ": can't be executed: " + e.Cause)}
}

func exitOf(res container.Result) error {
	switch {
	case res.Reason == container.Exited && res.Code == 0:
		return nil
	case res.Reason == container.Exited || res.Reason == container.Signalled:
		return exit.Status(res.Code) // 128 and the number, after a signal
	case res.Reason == container.Cancelled:
		return errors.New("interrupted")
	}
	return fmt.Errorf("the command ended: %s", res)
}

// withCWD adds the current directory, writable.
func withCWD(s *session.Session, mounts []container.Mount) []container.Mount {
	return append(mounts, container.Mount{Source: s.Dir, Target: cwdMount, Kind: container.Dir})
}

// onSubvolume returns the mounts with that subvolume as the root, if one is named.
func onSubvolume(mounts []container.Mount, name string) []container.Mount {
	mounts = slices.Clone(mounts)
	for i := range mounts {
		if name != "" && mounts[i].Target == "/" {
			mounts[i].Subvolume = name
		}
	}
	return mounts
}
