package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/size"
)

// resize is `b9 image resize`.
func resize(p *session.Program) *cobra.Command {
	var f Flags
	var only bool
	cmd := &cobra.Command{
		Use:  "resize FILE SIZE",
		Args: command.ExactArgs("a file and a size", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[1])
			if err != nil {
				return err
			}
			path, format, err := resolve(p, args[0], &f)
			if err != nil {
				return err
			}
			if format != "raw" {
				return fmt.Errorf("%s is a %s, and only raw images can be resized: convert it first (b9 image convert -O raw), and back afterwards", args[0], format)
			}
			return resizeImage(cmd.Context(), path, size, only, progress(p))
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
func resizeImage(ctx context.Context, path string, size newSize, only bool, progress func(done, total int64)) (err error) {
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
	if err := errors.Join(disk.Convert(ctx, src, work, "raw", disk.WriteOptions{Progress: progress}), src.Close()); err != nil {
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
	t, err := partition.ReadTable(img, 0)
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
	return errors.Join(partition.WriteTable(f, t), f.Close())
}

// replace is `b9 image replace`.
func replace(p *session.Program) *cobra.Command {
	var f Flags
	cmd := &cobra.Command{
		Use:  "replace DISK PARTITION FILE",
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
