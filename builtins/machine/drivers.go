package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"b9.build/b9/builtins/image"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/vm"
)

// checkDrivers refuses disks at controllers for which no kernel on them has a driver.
// Disks that show no kernel are left alone, as are all where the kernel is given.
func (a *makeMachine) checkDrivers(ctx context.Context, job *engine.Job) error {
	for i, d := range a.Machine.Disks {
		if a.Machine.Kernel != "" || d.CD {
			continue
		}
		img, err := image.OpenInput(ctx, job, fmt.Sprintf("disk%d", i), a.Check[i], image.Undeclared())
		if err != nil {
			return err
		}
		err = errors.Join(fits(rootsOf(img), d.Controller), img.Close())
		if err != nil {
			return fmt.Errorf("disk %d: %w", i, err)
		}
	}
	return nil
}

// rootsOf are the file systems of a disk that b9 reads.
func rootsOf(img disk.Image) []fs.FS {
	sections := []disk.Image{img}
	if table, err := partition.ReadTable(img, 0); err == nil {
		for _, p := range table.Partitions {
			if !p.Extended() {
				sections = append(sections, disk.Section(img, p.Start, p.Length))
			}
		}
	}
	var roots []fs.FS
	for _, s := range sections {
		if r, err := fsys.NewReader(s, s.Size()); err == nil {
			roots = append(roots, r)
		}
	}
	return roots
}

// modulesDirs are where a root file system has the modules of its kernels.
func modulesDirs() []string { return []string{"usr/lib/modules", "lib/modules"} }

// fits is an error if the roots have kernels, and none of these serves the controller.
func fits(roots []fs.FS, controller string) error {
	var versions, others []string
	for _, root := range roots {
		for _, dir := range modulesDirs() {
			entries, _ := fs.ReadDir(root, dir) // most have none
			for _, e := range entries {
				drivers := driversIn(root, path.Join(dir, e.Name()))
				if drivers == nil {
					continue
				}
				if serves(drivers, controller) {
					return nil
				}
				versions = append(versions, e.Name())
				for _, c := range vm.Controllers() {
					if serves(drivers, c) && !slices.Contains(others, c) {
						others = append(others, c)
					}
				}
			}
		}
	}
	if len(versions) == 0 {
		return nil
	}
	return fmt.Errorf("its kernel %s has no driver for the controller %s (module %s): it has those for %s, or install another kernel",
		strings.Join(versions, ", "), controller, strings.Join(vm.Drivers(controller), " or "), strings.Join(others, ", "))
}

func serves(drivers map[string]bool, controller string) bool {
	return slices.ContainsFunc(vm.Drivers(controller), func(d string) bool { return drivers[d] })
}

// driversIn are the modules of a kernel and what is built into it, nil where the lists
// of them are missing.
func driversIn(root fs.FS, dir string) map[string]bool {
	var drivers map[string]bool
	for _, list := range []string{"modules.order", "modules.builtin"} {
		data, err := fs.ReadFile(root, path.Join(dir, list))
		if err != nil {
			continue
		}
		if drivers == nil {
			drivers = map[string]bool{}
		}
		for line := range strings.Lines(string(data)) {
			name, _, _ := strings.Cut(path.Base(strings.TrimSpace(line)), ".ko")
			drivers[strings.ReplaceAll(name, "-", "_")] = true
		}
	}
	return drivers
}
