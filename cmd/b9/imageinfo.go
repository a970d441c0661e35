package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/disk"
	"b9/engine/fsys"
	"b9/engine/fsys/tree"
	"b9/engine/size"
)

// imageInfo is an image that is being described.
type imageInfo struct{ output.Image }

func (a *app) imageInfoCommand() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Tell an image's format, sizes, backing file and content",
		Args:  exactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := a.inspectImage(cmd.Context(), args[0], &f)
			if err != nil {
				return err
			}
			if a.json {
				return a.print(info.Image)
			}
			return a.printInfo(info)
		},
	}
	f.register(cmd)
	return cmd
}

// inspectImage collects what can be told. An image whose backing file is not
// named can be described, but not looked into.
func (a *app) inspectImage(ctx context.Context, name string, f *imageFlags) (*imageInfo, error) {
	path, format, err := a.resolve(name, f)
	if err != nil {
		return nil, err
	}
	d, err := disk.Inspect(path, format, disk.OpenOptions{Extents: f.extents})
	if err != nil {
		return nil, err
	}
	info := &imageInfo{output.Image{Path: name, Format: d.Format, Subformat: d.Subformat, Size: d.Size, Allocated: d.Allocated, Unit: d.Unit, Compression: d.Compress}}
	if d.Backing != nil {
		info.Backing, info.BackingFormat = d.Backing.Path, d.Backing.Format
		if len(f.backing) == 0 {
			return info, nil
		}
	}
	img, err := a.openDiskImage(name, f)
	if err != nil {
		return nil, err
	}
	return info, errors.Join(info.lookInside(ctx, img, path), img.Close())
}

// lookInside recognises a file system or a partition table.
func (i *imageInfo) lookInside(ctx context.Context, img disk.Image, path string) error {
	fs, err := probeImage(ctx, img, i.Format, path)
	if err != nil {
		return err
	}
	if fs.Type != "" {
		i.FileSystem, i.Label, i.UUID = fs.Type, fs.Label, fs.UUID
		return nil
	}
	t, err := disk.ReadTable(img, 0)
	if err != nil {
		return nil // no table: there need not be one
	}
	i.Table, i.UUID, i.Partitions = t.Kind, t.ID, listPartitions(t)
	return nil
}

// probeImage recognises the file system that fills an image. That is told by
// its first bytes, of which a copy is made if the image is not raw.
func probeImage(ctx context.Context, img disk.Image, format, path string) (tree.Info, error) {
	if format == "raw" {
		return fsys.Probe(path, 0, 0)
	}
	dir, err := os.MkdirTemp("", "b9-image")
	if err != nil {
		return tree.Info{}, err
	}
	defer os.RemoveAll(dir)
	head := filepath.Join(dir, "head")
	const enough = 4 << 20
	if err := disk.Convert(ctx, disk.Section(img, 0, min(img.Size(), enough)), head, "raw", disk.WriteOptions{}); err != nil {
		return tree.Info{}, err
	}
	if err := os.Truncate(head, img.Size()); err != nil {
		return tree.Info{}, err
	}
	return fsys.Probe(head, 0, 0)
}

func listPartitions(t *disk.Table) []output.Partition {
	all := []output.Partition{}
	for _, p := range t.Partitions {
		all = append(all, output.Partition{Number: p.Number, Start: p.Start, Size: p.Length, Type: p.Type, TypeName: p.TypeName, Name: p.Name, ID: p.ID, Bootable: p.Bootable, Attributes: p.Attributes})
	}
	return all
}

func (a *app) printInfo(i *imageInfo) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	row := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s\t%s\n", key, value)
		}
	}
	row("file", i.Path)
	row("format", strings.TrimSpace(i.Format+" "+i.Subformat))
	row("size", fmt.Sprintf("%s (%d bytes)", size.About(i.Size), i.Size))
	row("allocated", size.About(i.Allocated))
	row("compression", i.Compression)
	row("backing", strings.TrimSpace(i.Backing+" "+i.BackingFormat))
	row("file system", i.FileSystem)
	row("table", i.Table)
	row("label", i.Label)
	row("uuid", i.UUID)
	if err := w.Flush(); err != nil {
		return err
	}
	return a.printPartitions(i.Partitions)
}

func (a *app) printPartitions(all []output.Partition) error {
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if len(all) > 0 {
		fmt.Fprintln(w, "NUMBER\tSTART\tSIZE\tTYPE\tNAME\tID")
	}
	for _, p := range all {
		kind := p.TypeName
		if kind == "" {
			kind = p.Type
		}
		if p.Bootable {
			kind += " (boot)"
		}
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\n", p.Number, p.Start, size.About(p.Size), kind, p.Name, p.ID)
	}
	return w.Flush()
}

func (a *app) imagePartitionsCommand() *cobra.Command {
	var f imageFlags
	var sector int
	cmd := &cobra.Command{
		Use:   "partitions FILE",
		Short: "List the partitions of a disk",
		Args:  exactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if sector != 0 && sector != 512 && sector != 4096 {
				return exit.Usagef("--sector %d: want 512 or 4096", sector)
			}
			img, err := a.openDiskImage(args[0], &f)
			if err != nil {
				return err
			}
			defer img.Close()
			t, err := disk.ReadTable(img, sector)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if a.json {
				return a.print(output.Partitions{Table: t.Kind, Sector: t.SectorSize, ID: t.ID, Partitions: listPartitions(t)})
			}
			return a.printPartitions(listPartitions(t))
		},
	}
	f.register(cmd)
	cmd.Flags().IntVar(&sector, "sector", 0, "sectors have `BYTES`: 512 or 4096 (default: as the table says)")
	return cmd
}
