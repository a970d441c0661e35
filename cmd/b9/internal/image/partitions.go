package image

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/size"
)

// partitions is `b9 image partitions`.
func partitions(p *session.Program) *cobra.Command {
	var f Flags
	var sector int
	cmd := &cobra.Command{
		Use:   "partitions FILE",
		Short: "List the partitions of a disk",
		Args:  command.ExactArgs("a file", 1),
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
			list := listPartitions(t)
			return p.Show(output.Partitions{Table: t.Kind, Sector: t.SectorSize, ID: t.ID, Partitions: list}, partitionTable(list))
		},
	}
	f.Register(cmd)
	cmd.Flags().IntVar(&sector, "sector", 0, "sectors have `BYTES`: 512 or 4096 (default: as the table says)")
	return cmd
}

func listPartitions(t *partition.Table) []output.Partition {
	all := []output.Partition{}
	for _, p := range t.Partitions {
		all = append(all, output.Partition{Number: p.Number, Start: p.Start, Size: p.Length, Type: p.Type, TypeName: p.TypeName, Name: p.Name, ID: p.ID, Bootable: p.Bootable, Attributes: p.Attributes})
	}
	return all
}

// partitionTable is the partitions for people; "" for none.
func partitionTable(all []output.Partition) string {
	if len(all) == 0 {
		return ""
	}
	rows := [][]string{{"NUMBER", "START", "SIZE", "TYPE", "NAME", "ID"}}
	for _, part := range all {
		kind := cmp.Or(part.TypeName, part.Type)
		if part.Bootable {
			kind += " (boot)"
		}
		rows = append(rows, []string{strconv.Itoa(part.Number), strconv.FormatInt(part.Start, 10), size.About(part.Size), kind, part.Name, part.ID})
	}
	return output.Table(rows)
}
