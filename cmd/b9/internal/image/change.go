package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	actions "b9.build/b9/builtins/image"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// resize is `b9 image resize`.
func resize(p *session.Program) *cobra.Command {
	var f Flags
	s := actions.Sizing{Unknown: true, F2FS: true}
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
			return size.resize(cmd.Context(), p, path, s)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.format, "format", "f", "", "the image is in `FORMAT` (default: guessed)")
	fl.BoolVar(&s.ImageOnly, "image-only", false, "change the length only, whatever is in the image")
	fl.BoolVar(&s.Grow, "grow", false, "let the last partition, and the ext4 file system in it, take the new room")
	cmd.MarkFlagsMutuallyExclusive("image-only", "grow")
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

// resize replaces the raw image at path by one of this size.
func (n newSize) resize(ctx context.Context, p *session.Program, path string, s actions.Sizing) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	s.Scratch = filepath.Dir(path)
	logf := func(format string, args ...any) {
		if !p.Quiet {
			fmt.Fprintf(p.Console, format+"\n", args...)
		}
	}
	change := func(ctx context.Context, work string) error {
		return n.apply(ctx, work, st.Size(), s, logf, func() error { return restore(path, work) })
	}
	return store.SpaceError(path, disk.Update(ctx, path, progress(p), change))
}

// restore writes the bytes of the image src into the file dst again.
func restore(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// apply gives the raw image at path, of now bytes, its new size, with what is in it.
// again puts the image back to what it was.
func (n newSize) apply(ctx context.Context, path string, now int64, s actions.Sizing, logf func(string, ...any), again func() error) error {
	if n.least {
		info, err := fsys.Probe(path, 0, 0)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(info.Type, "ext") || s.ImageOnly {
			return fmt.Errorf("%s: the least size is known of ext4 file systems only: give a size", path)
		}
		_, err = fsys.Shrink(ctx, path, 0, again)
		return err
	}
	if s.Size = n.bytes; n.more {
		s.Size += now
	}
	s.Again = again
	err := s.Apply(ctx, path, logf)
	if errors.Is(err, actions.ErrKind) {
		err = fmt.Errorf("%w: --image-only gives it the size whatever it holds", err)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
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
			put := func(ctx context.Context, work string) error { return disk.Replace(ctx, work, args[1], img) }
			return errors.Join(store.SpaceError(path, disk.Update(cmd.Context(), path, progress(p), put)), img.Close())
		},
	}
	f.Register(cmd)
	return cmd
}
