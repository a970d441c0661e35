package image

import (
	"errors"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
)

// replace is `b9 image replace`.
func replace(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:   "replace DISK PARTITION FILE",
		Short: "Put an image into a partition of a raw disk",
		Long: `Replace what is in a partition, named by number, name or UUID, by an image. The
disk is raw and changed in place; what does not fit is refused before.`,
		Args: command.ExactArgs("a disk, a partition and a file", 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := p.Path(args[0])
			if err != nil {
				return err
			}
			img, err := Open(p, args[2], &f)
			if err != nil {
				return err
			}
			return errors.Join(disk.Replace(cmd.Context(), path, args[1], img), img.Close())
		},
	}
	f.Register(cmd)
	return cmd
}
