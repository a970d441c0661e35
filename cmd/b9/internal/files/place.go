// Package files holds the commands that read files out of images: ls, cat and cp.
//
//	opener  turns PLACE of the command line, WHAT:/PATH, into a place
//	place   a path in the file system of an image that is open
//	lister  walks through a place for ls
//
// It hides which image of a target, and which partition of a disk, is meant. It
// mounts nothing, and writes nothing into an image.
package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/build"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/image"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/store"
)

// opener opens places.
type opener struct {
	*session.Program
	build build.Flags
	image image.Flags // of image files
}

func newOpener(p *session.Program) *opener {
	return &opener{Program: p}
}

func (o *opener) register(cmd *cobra.Command) {
	o.build.Register(cmd)
	build.HideOut(cmd)
	o.image.RegisterAs(cmd, "read image files as `FORMAT`: raw, qcow2, vmdk ... (default: as they look)")
}

// check refuses flags that are wrong whatever is opened, and a path that is a word
// of its own after its target, as in `b9 ls :base /etc`.
func (o *opener) check(args []string) error {
	if err := o.image.Check(); err != nil {
		return err
	}
	for i, arg := range args[min(1, len(args)):] {
		before := args[i]
		if strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "//") && !strings.Contains(arg, ":") &&
			strings.Contains(before, ":") && !strings.Contains(before, ":/") {
			return exit.Usagef("%s %s: write %s:%s", before, arg, before, arg)
		}
	}
	return nil
}

// place is a path in an image that is open.
type place struct {
	what    string // as the user wrote it, without the path
	path    string // as io/fs has it
	files   tree.Reader
	image   disk.Image
	exposed *engine.Exposed  // the path of a directory that a step made, until then
	session *session.Session // of a target, which the store holds until then; else nil
}

func (p *place) String() string { return p.what + ":" + slashed(p.path) }

// Close closes the image; p may be open in part.
func (p *place) Close() error {
	var err error
	if p.image != nil {
		err = p.image.Close()
	}
	if p.exposed != nil {
		err = errors.Join(err, p.exposed.Close())
	}
	if p.session != nil {
		p.session.Close()
	}
	return err
}

// slashed is a path of io/fs as the user writes it.
func slashed(p string) string {
	if p == "." {
		return "/"
	}
	return "/" + p
}

// splitPlace separates WHAT from PATH, which begins with the first ":/". A
// place without a path is the image's root.
func splitPlace(arg string) (what, file string) {
	what, file, ok := strings.Cut(arg, ":/")
	if !ok {
		what = arg
	}
	return what, strings.TrimPrefix(path.Clean("/"+file), "/")
}

// open opens the image of a place and the file system in it.
func (o *opener) open(ctx context.Context, arg string) (*place, error) {
	what, file := splitPlace(arg)
	if what == "" {
		return nil, exit.Usagef("%s: name an image before the path, such as //web:root%s", arg, arg)
	}
	p := &place{what: what, path: file}
	sel, err := o.openImage(ctx, p)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if p.path == "" {
		p.path = "."
	}
	if p.image == nil {
		err = p.isDirectory(sel)
	} else {
		err = p.mount(sel, o.Console.Warn)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), p.Close())
	}
	return p, nil
}

// each visits places, which are open meanwhile, one after another.
func (o *opener) each(ctx context.Context, args []string, visit func(context.Context, *place) error) error {
	for _, arg := range args {
		p, err := o.open(ctx, arg)
		if err != nil {
			return err
		}
		if err := errors.Join(visit(ctx, p), p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// isDirectory refuses what chooses a partition of a place that is a directory.
func (p *place) isDirectory(sel string) error {
	if sel != "" {
		return exit.Usagef("it is a directory, which has no partition %q", sel)
	}
	return nil
}

// openImage opens the file, directory or target's result and returns what chooses a
// partition of it.
func (o *opener) openImage(ctx context.Context, p *place) (sel string, err error) {
	for _, cut := range [][2]string{{p.what, ""}, cutLast(p.what)} {
		name, err := o.Path(cut[0])
		if err != nil {
			return "", err
		}
		if strings.HasSuffix(cut[0], ".star") || !isFile(name) {
			continue
		}
		p.image, err = image.Open(o.Program, name, &o.image)
		return cut[1], err
	}
	if name, err := o.Path(p.what); err == nil && !strings.HasPrefix(p.what, "//") && isDir(name) {
		p.files, err = fsys.NewDirReader(ctx, name)
		return "", err
	}
	if !strings.Contains(p.what, ":") && !strings.HasPrefix(p.what, "//") {
		return "", exit.Usagef("%s: there is no such image file, and a target is written //pkg:name or :name", p.what)
	}
	return o.openTarget(ctx, p)
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && !st.IsDir()
}

func isDir(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// cutLast splits at the last colon.
func cutLast(s string) [2]string {
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		return [2]string{s[:i], s[i+1:]}
	}
	return [2]string{}
}

// openTarget builds a target, without writing its results, and opens its image. A second
// colon in what stands before an output's name or a partition.
func (o *opener) openTarget(ctx context.Context, p *place) (sel string, err error) {
	label := p.what
	if cut := cutLast(label); strings.Contains(cut[0], ":") {
		label, sel = cut[0], cut[1]
	}
	if p.session, err = o.Open(o.build.Configure); err != nil {
		return "", err
	}
	b, err := build.Do(ctx, p.session, build.Request{Flags: o.build, Patterns: []string{label}, ReadOnly: true, One: true, Backing: true})
	if err != nil {
		return "", err
	}
	ref, out, err := chooseOutput(b.Graph.Targets[0], &sel, &p.path)
	if err != nil {
		return "", err
	}
	if out.Kind == store.Tree {
		if p.exposed, err = b.Result.Artifact(ref).Expose(ctx); err == nil {
			p.files, err = fsys.NewDirReader(ctx, p.exposed.Path)
		}
		return sel, err
	}
	format := out.Ext
	if _, err := disk.Lookup(format); err != nil {
		format = "raw"
	}
	p.image, err = b.Open(ctx, ref, format)
	return sel, err
}

// mount opens the file system of the image, or of the partition that sel names.
func (p *place) mount(sel string, warn func(string, ...any)) error {
	if sel == "" {
		info, err := fsys.ProbeAt(p.image, p.image.Size())
		if err != nil {
			return err
		}
		if info.Type != "" {
			p.files, err = fsys.NewReader(p.image, p.image.Size())
			return err
		}
	}
	table, err := partition.ReadTable(p.image, 0)
	if err != nil {
		return fmt.Errorf("neither a file system nor partitions: %w", err)
	}
	if table.Backup != "" {
		warn("%s: the partition table is read from its backup: %s", p.what, table.Backup)
	}
	part, err := choosePartition(p.image, table, sel)
	if err != nil {
		return err
	}
	section := disk.Section(p.image, part.Start, part.Length)
	if p.files, err = fsys.NewReader(section, section.Size()); err != nil {
		return fmt.Errorf("partition %d: %w", part.Number, err)
	}
	return nil
}

// candidate is an output that can be looked into.
type candidate struct {
	ref engine.Ref
	out engine.Output
}

// chooseOutput finds the image or directory that is meant: the one that sel names, which
// is then used up; the one mounted nearest above the path, which is then relative
// to it; or the only one, where an image goes before directories. What lies beside the
// overlay that stands on it is meant only by name.
func chooseOutput(t *lang.Target, sel, file *string) (engine.Ref, engine.Output, error) {
	var all, images []candidate
	var names []string
	for _, ref := range t.Refs {
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			return engine.Ref{}, out, err
		}
		if out.Name == *sel && *sel != "" {
			*sel = ""
			return ref, out, nil
		}
		if names = append(names, out.Name); build.BesideOverlay(t, ref) {
			continue
		}
		all = append(all, candidate{ref, out})
		if out.Kind == store.File {
			images = append(images, candidate{ref, out})
		}
	}
	if len(all) == 1 {
		return all[0].ref, all[0].out, nil
	}
	best, depth := mountedAbove(all, *file)
	switch {
	case best >= 0:
		*file = strings.TrimPrefix((*file)[depth:], "/")
		return all[best].ref, all[best].out, nil
	case len(images) == 1:
		return images[0].ref, images[0].out, nil
	}
	return engine.Ref{}, engine.Output{}, exit.Usagef("%s: has several results: say %s:OUTPUT:/PATH (have %s)", t, t, strings.Join(names, ", "))
}

// mountedAbove finds the output that is mounted nearest above a path, and the length of
// its mount point in it; -1 for none.
func mountedAbove(all []candidate, file string) (best, depth int) {
	best, depth = -1, -1
	for i, m := range all {
		at, mounted := strings.CutPrefix(m.out.Name, "/")
		if above := mounted && (at == "" || strings.HasPrefix(file+"/", at+"/")); above && len(at) > depth {
			best, depth = i, len(at)
		}
	}
	return best, depth
}

// choosePartition finds the one that sel names; without it the largest Linux
// file system, or the only one that can be read.
func choosePartition(img disk.Image, table *partition.Table, sel string) (*partition.Partition, error) {
	if sel != "" {
		return table.Find(sel)
	}
	var other []*partition.Partition
	for _, v := range build.Volumes(img, table) {
		switch {
		case strings.HasPrefix(v.FSType, "ext") || v.FSType == "xfs" || v.FSType == "btrfs" || v.FSType == "squashfs":
			return v.Partition, nil
		case v.FSType == "vfat" || v.FSType == "iso9660":
			other = append(other, v.Partition)
		}
	}
	if len(other) == 1 {
		return other[0], nil
	}
	return nil, fmt.Errorf("none of the %d partitions is the obvious one: name one, as in IMAGE:1:/", len(table.Partitions))
}
