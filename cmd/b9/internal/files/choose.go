package files

import (
	"fmt"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/build"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
)

// chooseOutput finds the image that is meant: the one that sel names, which is
// then used up; the one mounted nearest above the path, which is then relative
// to it; or the only one. What lies beside the overlay that stands on it is meant
// only by name.
func chooseOutput(t *lang.Target, sel, file *string) (engine.Ref, engine.Output, error) {
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
		if names = append(names, out.Name); !build.BesideOverlay(t, ref) {
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
		return engine.Ref{}, engine.Output{}, fmt.Errorf("%s: has no image to look into (a directory is placed in %s by `b9 build`)", t, lang.OutputDir)
	case best < 0:
		return engine.Ref{}, engine.Output{}, exit.Usagef("%s: has several images: say %s:OUTPUT:/PATH (have %s)", t, t, strings.Join(names, ", "))
	}
	m := images[best]
	if len(images) > 1 {
		*file = strings.TrimPrefix(strings.TrimPrefix(*file, strings.TrimPrefix(m.out.Name, "/")), "/")
	}
	return m.ref, m.out, nil
}

// choosePartition finds the one that sel names; without it the largest Linux
// file system, or the only one that can be read.
func choosePartition(img disk.Image, table *partition.Table, sel string) (*partition.Partition, error) {
	if sel != "" {
		return table.Find(sel)
	}
	var linux *partition.Partition
	var other []*partition.Partition
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
