package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/engine"
	"b9/engine/disk"
	"b9/engine/fsys"
	"b9/engine/near"
	"b9/engine/store"
)

// splitPlace separates WHAT from PATH, which begins with the first ":/". A
// place without a path is the image's root.
func splitPlace(arg string) (what, file string) {
	what, file, ok := strings.Cut(arg, ":/")
	if !ok {
		what = arg
	}
	return what, strings.TrimPrefix(path.Clean("/"+file), "/")
}

// checkPlaces refuses a path that is a word of its own after its target, as in
// `b9 ls :base /etc`.
func checkPlaces(args []string) error {
	for i, arg := range args[min(1, len(args)):] {
		before := args[i]
		if strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, "//") && !strings.Contains(arg, ":") &&
			strings.Contains(before, ":") && !strings.Contains(before, ":/") {
			return exit.Usagef("%s %s: write %s:%s", before, arg, before, arg)
		}
	}
	return nil
}

// openPlace opens the image of a place and the file system in it.
func (a *app) openPlace(ctx context.Context, f *fileFlags, arg string) (*place, error) {
	if f.file.format != "" {
		if _, err := disk.Lookup(f.file.format); err != nil {
			return nil, exit.Usage(err)
		}
	}
	what, file := splitPlace(arg)
	if what == "" {
		return nil, exit.Usagef("%s: name an image before the path, such as //web:root%s", arg, arg)
	}
	p := &place{what: what, path: file}
	sel, err := a.openWhat(ctx, f, p)
	if err != nil {
		return nil, err
	}
	if p.path == "" {
		p.path = "."
	}
	if err := p.mount(sel); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), p.image.Close())
	}
	return p, nil
}

// openWhat opens the file or the target's image and returns what chooses a
// partition of it.
func (a *app) openWhat(ctx context.Context, f *fileFlags, p *place) (sel string, err error) {
	dir, err := a.workDir()
	if err != nil {
		return "", err
	}
	for _, cut := range [][2]string{{p.what, ""}, cutLast(p.what)} {
		name := cut[0]
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		if strings.HasSuffix(cut[0], ".star") || !isFile(name) {
			continue
		}
		p.image, err = a.openDiskImage(name, &f.file)
		return cut[1], err
	}
	if !strings.Contains(p.what, ":") && !strings.HasPrefix(p.what, "//") {
		return "", exit.Usagef("%s: there is no such image file, and a target is written //pkg:name or :name", p.what)
	}
	return a.openTarget(ctx, f, p)
}

func isFile(name string) bool {
	st, err := os.Stat(name)
	return err == nil && !st.IsDir()
}

// cutLast splits at the last colon.
func cutLast(s string) [2]string {
	if i := strings.LastIndexByte(s, ':'); i > 0 {
		return [2]string{s[:i], s[i+1:]}
	}
	return [2]string{}
}

// openTarget builds a target, without placing it, and opens its image. A second
// colon in what stands before an output's name or a partition.
func (a *app) openTarget(ctx context.Context, f *fileFlags, p *place) (sel string, err error) {
	label := p.what
	if cut := cutLast(label); strings.Contains(cut[0], ":") {
		label, sel = cut[0], cut[1]
	}
	f.looks = true
	b, err := a.buildFor(ctx, &f.engineFlags, label, true)
	if err != nil {
		return "", err
	}
	ref, out, err := chooseOutput(b.graph.Targets[0], &sel, &p.path)
	if err != nil {
		return "", err
	}
	format := out.Ext
	if _, err := disk.Lookup(format); err != nil {
		format = "raw"
	}
	p.image, err = openResult(ctx, b, ref, format)
	return sel, err
}

// beneathOverlays lists the images that the graph's overlays stand on.
func beneathOverlays(g *builtins.Graph) []engine.Ref {
	var refs []engine.Ref
	for _, ref := range graphRefs(g) {
		if below, _, ok := builtins.Beneath(ref); ok {
			refs = append(refs, below)
		}
	}
	return refs
}

// resultImage is the open image of a result. Close gives up the paths, too,
// that the result and what it stands on were exposed at.
type resultImage struct {
	disk.Image
	exposed []*engine.Exposed
}

func (r *resultImage) Close() error {
	var errs []error
	if r.Image != nil {
		errs = append(errs, r.Image.Close())
	}
	for _, x := range r.exposed {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// openResult opens an image that the build made. An overlay may open the image
// that its call in the build file named, whatever path it records.
func openResult(ctx context.Context, b *built, ref engine.Ref, format string) (disk.Image, error) {
	r := &resultImage{}
	expose := func(ref engine.Ref) (string, error) {
		x, err := b.result.Artifact(ref).Expose(ctx)
		if err != nil {
			return "", err
		}
		r.exposed = append(r.exposed, x)
		return x.Path, nil
	}
	path, err := expose(ref)
	var o disk.OpenOptions
	if below, format, ok := builtins.Beneath(ref); ok && err == nil {
		var under string
		under, err = expose(below)
		o.Backing = disk.BackedBy(under, format, disk.OpenOptions{})
	}
	if err == nil {
		r.Image, err = disk.Open(path, format, o)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// chooseOutput finds the image that is meant: the one that sel names, which is
// then used up; the one mounted nearest above the path, which is then relative
// to it; or the only one. What lies beside the overlay that stands on it is meant
// only by name.
func chooseOutput(t *builtins.Target, sel, file *string) (engine.Ref, engine.Output, error) {
	type image struct {
		ref engine.Ref
		out engine.Output
	}
	var images []image
	var names []string
	for _, ref := range t.Refs {
		out, err := ref.Node.Declared(ref.Output)
		if err != nil {
			return engine.Ref{}, out, err
		}
		if out.Kind != store.File {
			continue
		}
		if out.Name == *sel && *sel != "" {
			*sel = ""
			return ref, out, nil
		}
		if names = append(names, out.Name); !besideOverlay(t, ref) {
			images = append(images, image{ref, out})
		}
	}
	best, depth := -1, -1
	for i, m := range images {
		at := strings.TrimPrefix(m.out.Name, "/")
		if m.out.Name != "" && at == m.out.Name && len(images) > 1 {
			continue // no mount point
		}
		if len(images) == 1 || at == "" || *file == at || strings.HasPrefix(*file, at+"/") {
			if len(at) > depth {
				best, depth = i, len(at)
			}
		}
	}
	switch {
	case len(images) == 0:
		return engine.Ref{}, engine.Output{}, fmt.Errorf("%s: has no image to look into (a directory is placed in %s by `b9 build`)", t, builtins.OutputDir)
	case best < 0:
		return engine.Ref{}, engine.Output{}, exit.Usagef("%s: has several images: say %s:OUTPUT:/PATH (have %s)", t, t, strings.Join(names, ", "))
	}
	m := images[best]
	if len(images) > 1 {
		*file = strings.TrimPrefix(strings.TrimPrefix(*file, strings.TrimPrefix(m.out.Name, "/")), "/")
	}
	return m.ref, m.out, nil
}

// besideOverlay reports whether ref is what an overlay of the same target stands on.
func besideOverlay(t *builtins.Target, ref engine.Ref) bool {
	over := ref.Node.Ref("overlay")
	_, _, ok := builtins.Beneath(over)
	return ok && ref != over && slices.Contains(t.Refs, over)
}

// mount opens the file system of the image, or of the partition that sel names.
func (p *place) mount(sel string) error {
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
	table, err := disk.ReadTable(p.image, 0)
	if err != nil {
		return fmt.Errorf("neither a file system nor partitions: %w", err)
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

// choosePartition finds the one that sel names; without it the largest Linux
// file system, or the only one that can be read.
func choosePartition(img disk.Image, table *disk.Table, sel string) (*disk.Partition, error) {
	if sel != "" {
		return table.Find(sel)
	}
	var linux *disk.Partition
	var other []*disk.Partition
	for i := range table.Partitions {
		part := &table.Partitions[i]
		section := disk.Section(img, part.Start, part.Length)
		switch info, err := fsys.ProbeAt(section, section.Size()); {
		case err != nil || part.Extended():
		case strings.HasPrefix(info.Type, "ext") || info.Type == "squashfs":
			if linux == nil || part.Length > linux.Length {
				linux = part
			}
		case info.Type == "vfat" || info.Type == "iso9660":
			other = append(other, part)
		}
	}
	switch {
	case linux != nil:
		return linux, nil
	case len(other) == 1:
		return other[0], nil
	}
	return nil, fmt.Errorf("none of the %d partitions is the obvious one: name one, as in IMAGE:1:/", len(table.Partitions))
}

// explain words an error about a path in the image. Of a path that is not there
// it says where it ends, and which name is near.
func (p *place) explain(file string, err error) error {
	var perr *fs.PathError
	if errors.As(err, &perr) {
		err = perr.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.missing(file)
	case errors.Is(err, syscall.ENOTDIR):
		err = errors.New("a part of the path is no directory")
	case errors.Is(err, syscall.ELOOP):
		err = fmt.Errorf("the path leads through too many symbolic links")
	}
	return fmt.Errorf("%s:%s: %w", p.what, printable(slashed(file)), err)
}

func (p *place) missing(file string) error {
	dir, parts := ".", strings.Split(file, "/")
	for i, name := range parts {
		next := path.Join(dir, name)
		if _, err := p.files.Stat(next); err == nil {
			dir = next
			continue
		}
		if target, err := p.files.ReadLink(next); err == nil {
			return fmt.Errorf("%s:%s: %s is a link to %s, which is not there", p.what, printable(slashed(file)), printable(slashed(next)), printable(target))
		}
		hint := ""
		if list, err := p.files.ReadDir(dir); err == nil {
			hint = nearest(name, list, func(near string) string {
				return slashed(path.Join(append([]string{dir, near}, parts[i+1:]...)...))
			})
		}
		return fmt.Errorf("%s:%s: %s has no %q%s", p.what, printable(slashed(file)), printable(slashed(dir)), name, hint)
	}
	return fmt.Errorf("%s:%s: is not there", p.what, printable(slashed(file)))
}

// nearest is a hint at the entry whose name differs least.
func nearest(name string, list []fs.DirEntry, whole func(string) string) string {
	names := make([]string, 0, len(list))
	for _, e := range list[:min(len(list), 10_000)] {
		names = append(names, e.Name())
	}
	best := near.Match(name, names)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %q?", whole(best))
}
