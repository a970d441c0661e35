package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine/disk"
	"b9/engine/fsys"
	"b9/engine/size"
)

func (a *app) imageReplaceCommand() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "replace DISK PARTITION FILE",
		Short: "Put an image into a partition of a raw disk",
		Long: `Replace what is in a partition, named by number, name or UUID, by an image. The
disk is raw and changed in place; what does not fit is refused before.`,
		Args: exactArgs("a disk, a partition and a file", 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := a.path(args[0])
			if err != nil {
				return err
			}
			img, err := a.openDiskImage(args[2], &f)
			if err != nil {
				return err
			}
			return errors.Join(disk.Replace(cmd.Context(), path, args[1], img), img.Close())
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) imageCompareCommand() *cobra.Command {
	var f, second imageFlags
	cmd := &cobra.Command{
		Use:   "compare FILE FILE",
		Short: "Tell whether two images hold the same bytes",
		Long: `Compare what two images hold, whatever their formats. The shorter one counts as
if zeros followed it. The exit status is 0 if they are the same, 1 if they are
different, and 2 if they could not be compared.`,
		Args: exactArgs("two files", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			second.backing, second.extents = f.backing, f.extents
			same, err := a.compareImages(cmd.Context(), args, &f, &second)
			switch {
			case err != nil:
				return &exit.Error{Status: exit.Trouble, Err: err}
			case !same:
				return exit.Status(exit.Different)
			}
			return nil
		},
	}
	f.register(cmd)
	cmd.Flags().StringVarP(&second.format, "second-format", "F", "", "the second image is in `FORMAT` (default: guessed)")
	return cmd
}

func (a *app) compareImages(ctx context.Context, names []string, f, g *imageFlags) (same bool, err error) {
	first, err := a.openDiskImage(names[0], f)
	if err != nil {
		return false, err
	}
	defer first.Close()
	second, err := a.openDiskImage(names[1], g)
	if err != nil {
		return false, err
	}
	defer second.Close()
	at, err := disk.Compare(ctx, first, second)
	if err != nil {
		return false, err
	}
	return at < 0, a.printComparison(at)
}

// printComparison says where the first difference is; below 0 there is none.
func (a *app) printComparison(at int64) error {
	var err error
	switch {
	case a.json && at < 0:
		err = a.print(output.Comparison{Identical: true})
	case a.json:
		err = a.print(output.Comparison{Offset: &at})
	case at >= 0:
		_, err = fmt.Fprintf(a.stdout, "different at offset %d\n", at)
	case !a.quiet:
		_, err = fmt.Fprintln(a.stdout, "identical")
	}
	return err
}

func (a *app) imageCheckCommand() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Look for damage in an image",
		Long: `Follow every table of the image, unpack what is compressed, and compare a qcow2's
reference counts with what is in use. Of a raw image the file system is checked,
with its own checker. Nothing is changed. Leaks waste room and are no damage.`,
		Args: exactArgs("a file", 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, format, err := a.resolve(args[0], &f)
			if err != nil {
				return err
			}
			if format == "raw" {
				return a.checkRaw(cmd.Context(), args[0], path)
			}
			return a.checkFormat(cmd.Context(), args[0], path, format, &f)
		},
	}
	f.register(cmd)
	return cmd
}

// checkRaw checks the file system in a raw image, or else its partition table.
func (a *app) checkRaw(ctx context.Context, name, path string) error {
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	if info.Type != "" {
		if err := fsys.Check(ctx, path); err != nil {
			return err
		}
		return a.verdict(name, info.Type+" file system")
	}
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	defer img.Close()
	t, err := disk.ReadTable(img, 0)
	if err != nil {
		return fmt.Errorf("%s: nothing to check: no known file system, and no partition table: %w", name, err)
	}
	return a.verdict(name, fmt.Sprintf("%s table of %d partitions", t.Kind, len(t.Partitions)))
}

func (a *app) verdict(name, what string) error {
	if a.json {
		return a.print(output.Check{Path: name, Checked: what})
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s: no errors\n", name, what)
	return err
}

func (a *app) checkFormat(ctx context.Context, name, path, format string, f *imageFlags) error {
	r, err := disk.Check(ctx, path, format, disk.OpenOptions{Extents: f.extents})
	if err != nil {
		return err
	}
	if a.json {
		err = a.print(output.Check{Path: name, Checked: format, Clusters: r.Clusters, Leaks: r.Leaks, Corruptions: r.Corruptions, Problems: r.Problems})
	} else if r.Leaks+r.Corruptions == 0 {
		return a.verdict(name, format)
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s\n%s: %s: %d corruptions, %d leaks\n", strings.Join(r.Problems, "\n"), name, format, r.Corruptions, r.Leaks)
	}
	if err == nil && r.Corruptions > 0 {
		err = fmt.Errorf("%s is damaged: make it again, or repair a copy with qemu-img check -r all", name)
	}
	return err
}

func (a *app) imageResizeCommand() *cobra.Command {
	var f imageFlags
	var only bool
	cmd := &cobra.Command{
		Use:   "resize FILE SIZE",
		Short: "Make a raw image larger or smaller, with what is in it",
		Long: `Make a raw image SIZE bytes long (such as 10G), that much longer (+2G), or as
small as its file system allows (min). An ext4 file system is resized with it, the
copy of a GPT at the end moves there. What would lose data is refused. The work is
done on a copy, which then takes the image's place.`,
		Args: exactArgs("a file and a size", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, format, err := a.resolve(args[0], &f)
			if err != nil {
				return err
			}
			if format != "raw" {
				return fmt.Errorf("%s is a %s, and only raw images can be resized: convert it first (b9 image convert -O raw), and back afterwards", args[0], format)
			}
			size, err := parseSize(args[1])
			if err != nil {
				return err
			}
			return a.resizeImage(cmd.Context(), path, size, only)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.format, "format", "f", "", "the image is in `FORMAT` (default: guessed)")
	fl.BoolVar(&only, "image-only", false, "change the length only, whatever is in the image")
	return cmd
}

// newSize is how large an image becomes.
type newSize struct {
	bytes int64
	more  bool // than it is
	least bool // as small as its file system allows
}

func parseSize(text string) (newSize, error) {
	if text == "min" {
		return newSize{least: true}, nil
	}
	number, more := strings.CutPrefix(text, "+")
	n, err := size.Parse(number)
	if err != nil {
		return newSize{}, exit.Usage(err)
	}
	return newSize{bytes: int64(n), more: more}, nil
}

// resizeImage works on a copy beside the image.
func (a *app) resizeImage(ctx context.Context, path string, size newSize, only bool) (err error) {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".b9-resize")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	work := filepath.Join(dir, "image")
	src, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	if err := errors.Join(disk.Convert(ctx, src, work, "raw", disk.WriteOptions{Progress: a.imageProgress()}), src.Close()); err != nil {
		return err
	}
	if err := os.Chmod(work, st.Mode().Perm()); err != nil {
		return err
	}
	if err := resizeRaw(ctx, work, size, st.Size(), only); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), work, path))
	}
	return os.Rename(work, path)
}

// resizeRaw resizes the image at path, of now bytes, with what is in it.
func resizeRaw(ctx context.Context, path string, wanted newSize, now int64, only bool) error {
	info, err := fsys.Probe(path, 0, 0)
	if err != nil {
		return err
	}
	ext := strings.HasPrefix(info.Type, "ext")
	if wanted.least {
		if !ext || only {
			return fmt.Errorf("%s: the least size is known of ext4 file systems only: give a size", path)
		}
		_, err := fsys.Shrink(ctx, path, 0)
		return err
	}
	n := wanted.bytes
	if wanted.more {
		n += now
	}
	switch {
	case only:
		return fsys.ResizeImageOnly(path, n)
	case ext:
		return fsys.Resize(ctx, path, n)
	case info.Type != "" && n < now:
		return fmt.Errorf("%s holds a %s file system, which can't be made smaller here: --image-only cuts the image off nevertheless", path, info.Type)
	}
	return resizeDisk(path, n, now)
}

// resizeDisk resizes an image that may have a partition table.
func resizeDisk(path string, size, now int64) error {
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	t, err := disk.ReadTable(img, 0)
	img.Close()
	if err != nil {
		if size < now {
			return fmt.Errorf("%s has neither a file system nor a table that tells what may go: --image-only cuts it off nevertheless", path)
		}
		return fsys.ResizeImageOnly(path, size)
	}
	for _, p := range t.Partitions {
		if p.End() > size {
			return fmt.Errorf("%s: partition %d ends at %d, after the new size of %d", path, p.Number, p.End(), size)
		}
	}
	if err := fsys.ResizeImageOnly(path, size); err != nil || t.Kind != "gpt" {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	t.Size = size
	return errors.Join(disk.WriteTable(f, t), f.Close())
}
