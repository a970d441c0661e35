package image

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/size"
)

// info is `b9 image info`.
func info(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:  "info FILE",
		Args: command.ExactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := inspect(p, args[0], &f)
			if err != nil {
				return err
			}
			return p.Show(*d, describe(d))
		},
	}
	f.Register(cmd)
	return cmd
}

// inspect describes an image. Its content is left out where its backing file is not
// named.
func inspect(p *session.Program, name string, f *Flags) (*output.Image, error) {
	path, format, err := resolve(p, name, f)
	if err != nil {
		return nil, err
	}
	d, err := disk.Inspect(path, format, disk.OpenOptions{Extents: f.extents})
	if err != nil {
		return nil, permit(name, err)
	}
	info := &output.Image{Path: name, Format: d.Format, Subformat: d.Subformat, Size: d.Size, Allocated: d.Allocated, Unit: d.Unit, Compression: d.Compress}
	if d.Backing != nil {
		info.Backing, info.BackingFormat = d.Backing.Path, d.Backing.Format
		if len(f.backing) == 0 {
			return info, nil
		}
	}
	img, err := Open(p, name, f)
	if err != nil {
		return nil, err
	}
	return info, errors.Join(addContent(info, img), img.Close())
}

// addContent recognises a file system or a partition table.
func addContent(i *output.Image, img disk.Image) error {
	fs, err := fsys.ProbeAt(img, img.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", i.Path, err)
	}
	if fs.Type != "" {
		i.FileSystem, i.Label, i.UUID = fs.Type, fs.Label, fs.UUID
		return nil
	}
	t, err := partition.ReadTable(img, 0)
	if err != nil {
		return nil // no table: there need not be one
	}
	i.Table, i.TableBackup, i.UUID, i.Partitions = t.Kind, t.Backup, t.ID, t.Partitions
	return nil
}

// describe is the description for people: a line for each value that there is.
func describe(i *output.Image) string {
	rows := slices.DeleteFunc([][]string{
		{"file", i.Path},
		{"format", strings.TrimSpace(i.Format + " " + i.Subformat)},
		{"size", fmt.Sprintf("%s (%d bytes)", size.About(i.Size), i.Size)},
		{"allocated", size.About(i.Allocated)},
		{"compression", i.Compression},
		{"backing", strings.TrimSpace(i.Backing + " " + i.BackingFormat)},
		{"file system", i.FileSystem},
		{"table", i.Table},
		{"table read", backupText(i.TableBackup)},
		{"label", i.Label},
		{"uuid", i.UUID},
	}, func(row []string) bool { return row[1] == "" })
	return output.Table(rows) + partitionTable(i.Partitions)
}

// backupText says that a table was read from its backup, and why.
func backupText(why string) string {
	if why == "" {
		return ""
	}
	return "from its backup: " + why
}

// partitions is `b9 image partitions`.
func partitions(p *session.Program) *cobra.Command {
	var f Flags
	var sector int
	cmd := &cobra.Command{
		Use:  "partitions FILE",
		Args: command.ExactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if sector != 0 && sector != 512 && sector != 4096 {
				return exit.Usagef("--sector %d: want 512 or 4096", sector)
			}
			img, err := Open(p, args[0], &f)
			if err != nil {
				return err
			}
			defer img.Close()
			t, err := partition.ReadTable(img, sector)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if t.Backup != "" {
				p.Console.Warn("%s: the partition table is read %s", args[0], backupText(t.Backup))
			}
			return p.Show(output.Partitions{Table: t.Kind, Sector: t.SectorSize, ID: t.ID, Backup: t.Backup, Partitions: output.List(t.Partitions)}, partitionTable(t.Partitions))
		},
	}
	f.Register(cmd)
	cmd.Flags().IntVar(&sector, "sector", 0, "sectors have `BYTES`: 512 or 4096 (default: as the table says)")
	return cmd
}

// attributes are what a table says of a partition beside its type.
func attributes(part partition.Partition) string {
	names := partition.AttributeNames(part.Attributes)
	if part.Bootable {
		names = append([]string{"boot"}, slices.DeleteFunc(names, func(s string) bool { return s == "legacy-boot" })...)
	}
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names, ", ") + ")"
}

// partitionTable is the partitions for people; "" for none.
func partitionTable(all []partition.Partition) string {
	if len(all) == 0 {
		return ""
	}
	rows := [][]string{{"NUMBER", "START", "SIZE", "TYPE", "NAME", "ID"}}
	for _, part := range all {
		kind := cmp.Or(part.TypeName, part.Type)
		kind += attributes(part)
		rows = append(rows, []string{strconv.Itoa(part.Number), strconv.FormatInt(part.Start, 10), size.About(part.Length), kind, part.Name, part.ID})
	}
	return output.Table(rows)
}
