package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/disk/vmdk"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// formatFor returns the format that the ending of a file name stands for.
func formatFor(name string) (string, error) {
	ext := strings.TrimPrefix(filepath.Ext(name), ".")
	for _, f := range disk.Formats() {
		for _, e := range f.Extensions() {
			if strings.EqualFold(e, ext) {
				return f.Name(), nil
			}
		}
	}
	return "", exit.Usagef("%s: the name does not tell the format: give one with -O (have %s)", name, strings.Join(formatNames(), ", "))
}

// conversion is one run of `b9 image convert`.
type conversion struct {
	Flags
	to                           string
	compress, subformat, adapter string
	onto                         string // FORMAT:PATH of the backing file written
	partition                    string // of the source, by number, name or UUID
	force                        bool
}

// convert is `b9 image convert`.
func convert(p *session.Program) *cobra.Command {
	var c conversion
	cmd := &cobra.Command{
		Use:  "convert [-f FORMAT] [-O FORMAT] SOURCE DESTINATION",
		Args: command.ExactArgs("a source and a destination", 2),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), p, args[0], args[1]) },
	}
	c.Register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&c.to, "output-format", "O", "", "write `FORMAT` (default: by the destination's name)")
	fl.StringVar(&c.compress, "compress", "", "compress a qcow2 with `METHOD`: zlib, zstd")
	fl.StringVar(&c.subformat, "subformat", "", "`KIND` of a vmdk (monolithicSparse, streamOptimized, monolithicFlat) or vhd (dynamic, fixed)")
	fl.StringVar(&c.adapter, "adapter", "", "`CONTROLLER` a vmdk names (default lsilogic)")
	fl.StringVar(&c.onto, "onto", "", "write a qcow2 of the differences from the backing file `FORMAT:PATH`")
	fl.StringVar(&c.partition, "partition", "", "convert what is in `PARTITION` of the source, a number, name or UUID")
	fl.BoolVar(&c.force, "force", false, "replace the destination if it exists")
	return cmd
}

func (c *conversion) run(ctx context.Context, p *session.Program, from, to string) (err error) {
	dst, err := p.Path(to)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(dst); err == nil {
		dst = real // a symbolic link stays one
	}
	if c.to == "" {
		if c.to, err = formatFor(to); err != nil {
			return err
		}
	}
	format, err := disk.Lookup(c.to)
	if err != nil {
		return exit.Usage(err)
	}
	files := []string{dst}
	if c.subformat == vmdk.Flat {
		files = append(files, flatName(dst))
	}
	for _, file := range files {
		if _, err := os.Lstat(file); err == nil && !c.force {
			return fmt.Errorf("%s exists: --force replaces it", filepath.Join(filepath.Dir(to), filepath.Base(file)))
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	o := disk.WriteOptions{Compress: c.compress, Subformat: c.subformat, Adapter: c.adapter, Progress: progress(p), Sync: true, Mode: 0o666 &^ p.Umask}
	if c.onto != "" {
		format, path, ok := strings.Cut(c.onto, ":")
		if !ok {
			return exit.Usagef("--onto %s: want FORMAT:PATH, such as raw:base.raw", c.onto)
		}
		if _, err := disk.Lookup(format); err != nil {
			return exit.Usage(err)
		}
		o.Backing = &disk.Backing{Path: path, Format: format}
	}
	if err := checkWriteOptions(ctx, format, o); err != nil {
		return err
	}
	src, err := Open(p, from, &c.Flags)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	img, err := c.part(p, from, src)
	if err != nil {
		return err
	}
	if c.subformat == vmdk.Flat {
		return store.SpaceError(dst, disk.ConvertFlat(ctx, img, dst, flatName(dst), o))
	}
	return store.SpaceError(dst, disk.Convert(ctx, img, dst, c.to, o))
}

// part is the partition of the source that is asked for, or the source.
func (c *conversion) part(p *session.Program, name string, img disk.Image) (disk.Image, error) {
	if c.partition == "" {
		return img, nil
	}
	t, err := partition.ReadTable(img, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if t.Backup != "" {
		p.Console.Warn("%s: the partition table is read %s", name, backupText(t.Backup))
	}
	part, err := t.Find(c.partition)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return disk.Section(img, part.Start, part.Length), nil
}

// flatName is the file with the data of the vmdk dst whose subformat is monolithicFlat.
func flatName(dst string) string { return strings.TrimSuffix(dst, ".vmdk") + "-flat.vmdk" }

// checkWriteOptions finds out whether a format has the options, by writing a
// blank image to memory.
func checkWriteOptions(ctx context.Context, format image.Format, o disk.WriteOptions) error {
	fd, err := unix.MemfdCreate("b9-image", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "blank."+format.Name())
	defer f.Close()
	o.Progress, o.Sync, o.Backing = nil, false, nil // whose path is relative to the destination
	if err := format.Write(ctx, f, image.Blank(1<<20), o); err != nil && ctx.Err() == nil {
		return exit.Usage(err)
	}
	return nil
}

// progress shows how far a conversion is, on a terminal only.
func progress(p *session.Program) func(done, total int64) {
	line := p.Console.Line()
	if p.Quiet || line == nil {
		return nil
	}
	var last time.Time
	return func(done, total int64) {
		if done >= total {
			p.Console.EndLine()
		} else if time.Since(last) > 100*time.Millisecond {
			last = time.Now()
			line(fmt.Sprintf("%3d%% of %s ", int(100*float64(done)/float64(total)), size.About(total)))
		}
	}
}
