package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"b9/cmd/b9/internal/exit"
	"b9/engine/disk"
	"b9/engine/size"
)

func (a *app) imageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Look at, convert, compare and check disk images",
		Long: `Work on disk images that are plain files; no workspace is needed. The format of
an image is guessed from its first bytes unless -f names it: name it for an image
that comes from somebody else.`,
		Example: `  b9 image info disk.qcow2
  b9 image convert --compress zstd disk.raw disk.qcow2
  b9 image compare disk.raw disk.qcow2`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imageInfoCommand(), a.imageConvertCommand(), a.imageResizeCommand(),
		a.imagePartitionsCommand(), a.imageReplaceCommand(), a.imageCompareCommand(), a.imageCheckCommand())
	return cmd
}

// imageFlags say how an image is opened.
type imageFlags struct {
	format  string
	backing []string
	extents bool
}

const backingUsage = "open the backing file `FORMAT:PATH` under the image; again for the one under that"

func (f *imageFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.format, "format", "f", "", "the image is in `FORMAT`: "+strings.Join(formatNames(), ", ")+" (default: guessed)")
	fl.StringArrayVar(&f.backing, "backing", nil, backingUsage)
	fl.BoolVar(&f.extents, "extents", false, "let a vmdk descriptor open the files it names beside it")
}

func formatNames() []string {
	var names []string
	for _, f := range disk.Formats() {
		names = append(names, f.Name())
	}
	return names
}

// path makes the name of a file absolute, seen from the working directory.
func (a *app) path(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	dir, err := a.workDir()
	return filepath.Join(dir, name), err
}

// resolve returns the path of an image and its format.
func (a *app) resolve(name string, f *imageFlags) (path, format string, err error) {
	if path, err = a.path(name); err != nil {
		return "", "", err
	}
	if f.format != "" {
		if _, err := disk.Lookup(f.format); err != nil {
			return "", "", exit.Usage(err)
		}
		return path, f.format, nil
	}
	format, err = disk.Detect(path)
	return path, format, err
}

// options are those for opening with the declared backing files.
func (f *imageFlags) options(a *app) (disk.OpenOptions, error) {
	o := disk.OpenOptions{Extents: f.extents}
	for i := len(f.backing) - 1; i >= 0; i-- {
		format, name, ok := strings.Cut(f.backing[i], ":")
		if _, err := disk.Lookup(format); !ok || err != nil {
			return o, exit.Usagef("--backing %s: want FORMAT:PATH, such as raw:base.raw", f.backing[i])
		}
		path, err := a.path(name)
		if err != nil {
			return o, err
		}
		o = disk.OpenOptions{Extents: f.extents, Backing: disk.BackedBy(path, format, o)}
	}
	return o, nil
}

// openDiskImage opens the image as the flags say.
func (a *app) openDiskImage(name string, f *imageFlags) (disk.Image, error) {
	path, format, err := a.resolve(name, f)
	if err != nil {
		return nil, err
	}
	o, err := f.options(a)
	if err != nil {
		return nil, err
	}
	img, err := disk.Open(path, format, o)
	if err != nil && strings.Contains(err.Error(), "OpenOptions.Backing") {
		err = fmt.Errorf("%s: the image stands on a backing file, which is opened only if --backing FORMAT:PATH names it", name)
	} else if err != nil && strings.Contains(err.Error(), "OpenOptions.Extents") {
		err = fmt.Errorf("%s: the image keeps its data in other files, which are opened only with --extents", name)
	}
	return img, err
}

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
	imageFlags
	to                           string
	compress, subformat, adapter string
	onto                         string // FORMAT:PATH of the backing file written
	force                        bool
}

func (a *app) imageConvertCommand() *cobra.Command {
	var c conversion
	cmd := &cobra.Command{
		Use:   "convert [-f FORMAT] [-O FORMAT] SOURCE DESTINATION",
		Short: "Write an image in another format",
		Long: `Write an image in another format. Holes and zeros stay holes. The format of the
destination is that of its name's ending unless -O gives it. The file appears
when it is complete.`,
		Example: "  b9 image convert disk.raw disk.qcow2\n  b9 image convert --subformat streamOptimized disk.qcow2 disk.vmdk",
		Args:    exactArgs("a source and a destination", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.convertImage(cmd.Context(), &c, args[0], args[1])
		},
	}
	c.register(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&c.to, "output-format", "O", "", "write `FORMAT` (default: by the destination's name)")
	fl.StringVar(&c.compress, "compress", "", "compress a qcow2 with `METHOD`: zlib, zstd")
	fl.StringVar(&c.subformat, "subformat", "", "`KIND` of a vmdk (monolithicSparse, streamOptimized) or vhd (dynamic, fixed)")
	fl.StringVar(&c.adapter, "adapter", "", "`CONTROLLER` a vmdk names (default lsilogic)")
	fl.StringVar(&c.onto, "onto", "", "write a qcow2 of the differences from the backing file `FORMAT:PATH`")
	fl.BoolVar(&c.force, "force", false, "replace the destination if it exists")
	return cmd
}

// exactArgs wants n arguments, and says which when there are others.
func exactArgs(what string, n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return exit.Usagef("%s takes %s, got %d arguments (see `%s --help`)", commandName(cmd), what, len(args), cmd.CommandPath())
		}
		return nil
	}
}

func (a *app) convertImage(ctx context.Context, c *conversion, from, to string) error {
	dst, err := a.path(to)
	if err != nil {
		return err
	}
	if c.to == "" {
		if c.to, err = formatFor(to); err != nil {
			return err
		}
	}
	if _, err := disk.Lookup(c.to); err != nil {
		return exit.Usage(err)
	}
	if _, err := os.Lstat(dst); err == nil && !c.force {
		return fmt.Errorf("%s exists: --force replaces it", to)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	o := disk.WriteOptions{Compress: c.compress, Subformat: c.subformat, Adapter: c.adapter, Progress: a.imageProgress()}
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
	if err := checkWriteOptions(ctx, c.to, o); err != nil {
		return err
	}
	src, err := a.openDiskImage(from, &c.imageFlags)
	if err != nil {
		return err
	}
	return errors.Join(disk.Convert(ctx, src, dst, c.to, o), src.Close())
}

// checkWriteOptions finds out whether a format takes the options, by writing a
// blank image to memory.
func checkWriteOptions(ctx context.Context, to string, o disk.WriteOptions) error {
	format, err := disk.Lookup(to)
	if err != nil {
		return exit.Usage(err)
	}
	fd, err := unix.MemfdCreate("b9-image", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "blank."+to)
	defer f.Close()
	o.Progress = nil
	if err := format.Write(ctx, f, blank{}, o); err != nil && ctx.Err() == nil {
		return exit.Usage(err)
	}
	return nil
}

// blank is an image without data.
type blank struct{}

func (blank) Size() int64  { return 1 << 20 }
func (blank) Close() error { return nil }

func (blank) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

func (b blank) Extent(off int64) (disk.Extent, error) {
	if off < 0 || off >= b.Size() {
		return disk.Extent{}, io.EOF
	}
	return disk.Extent{Start: off, Length: b.Size() - off, State: disk.Hole}, nil
}

// imageProgress shows how far a conversion is, on a terminal only.
func (a *app) imageProgress() func(done, total int64) {
	if a.quiet || !isTerminalWriter(a.stderr) {
		return nil
	}
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); done < total && now.Sub(last) > 100*time.Millisecond {
			last = now
			fmt.Fprintf(a.stderr, "\r%3d%% of %s ", int(100*float64(done)/float64(total)), size.About(total))
		} else if done >= total {
			fmt.Fprint(a.stderr, "\r\x1b[K")
		}
	}
}
