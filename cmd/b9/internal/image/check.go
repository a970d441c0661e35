package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
)

// check is `b9 image check`.
func check(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Look for damage in an image",
		Long: `Follow every table of the image, unpack what is compressed, and compare a qcow2's
reference counts with what is in use. Of a raw image the file system is checked,
with its own checker. Nothing is changed. Leaks waste room and are no damage.`,
		Args: command.ExactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, format, err := resolve(p, args[0], &f)
			if err != nil {
				return err
			}
			if format == "raw" {
				return checkRaw(cmd.Context(), p, args[0], path)
			}
			return checkFormat(cmd.Context(), p, args[0], path, format, &f)
		},
	}
	f.Register(cmd)
	return cmd
}

// checkRaw checks the file system in a raw image, or else its partition table.
func checkRaw(ctx context.Context, p *session.Program, name, path string) error {
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	if info.Type != "" {
		if err := fsys.Check(ctx, path); err != nil {
			return err
		}
		return verdict(p, name, info.Type+" file system")
	}
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer img.Close()
	t, err := partition.ReadTable(img, 0)
	if err != nil {
		return fmt.Errorf("%s: nothing to check: no known file system, and no partition table: %w", name, err)
	}
	return verdict(p, name, fmt.Sprintf("%s table of %d partitions", t.Kind, len(t.Partitions)))
}

func verdict(p *session.Program, name, what string) error {
	return p.Show(output.Check{Path: name, Checked: what}, fmt.Sprintf("%s: %s: no errors\n", name, what))
}

func checkFormat(ctx context.Context, p *session.Program, name, path, format string, f *Flags) error {
	r, err := disk.Check(ctx, path, format, disk.OpenOptions{Extents: f.Extents})
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s: %s: no errors\n", name, format)
	if r.Leaks+r.Corruptions > 0 {
		text = fmt.Sprintf("%s\n%s: %s: %d corruptions, %d leaks\n", strings.Join(r.Problems, "\n"), name, format, r.Corruptions, r.Leaks)
	}
	err = p.Show(output.Check{Path: name, Checked: format, Clusters: r.Clusters, Leaks: r.Leaks, Corruptions: r.Corruptions, Problems: r.Problems}, text)
	if err == nil && r.Corruptions > 0 {
		err = fmt.Errorf("%s is damaged: make it again, or repair a copy with qemu-img check -r all", name)
	}
	return err
}
