package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"b9/cmd/b9/internal/exit"
	"b9/engine/disk"
	"b9/engine/fsys"
	"b9/engine/fsys/tree"
)

const filesHelp = `A place is WHAT:/PATH. WHAT is a target, which is built first when it has to be,
but not placed in b9-out/, a shared image as shared:NAME, or an image file. A
target with several images has them at their mount points, as it was built;
others are chosen as TARGET:OUTPUT:/PATH. An overlay is read through to the image
that its call in the build file names, whatever path it records; that of an image
file is opened only if --backing names it. On a disk with partitions the only, or
else the largest, Linux file system is meant; another one is WHAT:PARTITION:/PATH,
by number, name or UUID. Nothing is mounted, and ext2/3/4, vfat, iso9660 and
squashfs are read in raw, qcow2, vmdk and the other formats.`

// fileFlags are the flags of the commands that look into images.
type fileFlags struct {
	engineFlags
	file imageFlags // of image files; a vmdk may always open its extents
}

func (f *fileFlags) register(cmd *cobra.Command) {
	f.engineFlags.register(cmd)
	hideOut(cmd)
	f.file.extents = true
	fl := cmd.Flags()
	fl.StringVarP(&f.file.format, "format", "f", "", "read image files as `FORMAT`: raw, qcow2, vmdk ... (default: as they look)")
	fl.StringArrayVar(&f.file.backing, "backing", nil, backingUsage)
}

func (a *app) catCommand() *cobra.Command {
	var f fileFlags
	cmd := &cobra.Command{
		Use:     "cat PLACE...",
		Short:   "Print files that lie in an image",
		Long:    "Print files that lie in an image to standard output, without mounting it.\n\n" + filesHelp,
		Example: "  b9 cat //web:root:/etc/hostname\n  b9 cat disk.qcow2:2:/etc/fstab",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exit.Usagef("name a file, such as //web:root:/etc/hostname or disk.raw:/etc/hostname")
			}
			if err := checkPlaces(args); err != nil {
				return err
			}
			for _, arg := range args {
				if err := a.catPlace(cmd.Context(), &f, arg); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) catPlace(ctx context.Context, f *fileFlags, arg string) error {
	p, err := a.openPlace(ctx, f, arg)
	if err != nil {
		return err
	}
	return errors.Join(p.cat(ctx, a.stdout), p.Close())
}

func (p *place) cat(ctx context.Context, w io.Writer) error {
	info, err := p.files.Stat(p.path)
	if err != nil {
		return p.explain(p.path, err)
	}
	if info.IsDir() {
		return fmt.Errorf("%s: is a directory (`b9 ls` lists it)", p)
	}
	in, err := p.files.Open(p.path)
	if err != nil {
		return p.explain(p.path, err)
	}
	defer in.Close()
	if _, err := io.Copy(w, contextReader{ctx, in}); err != nil {
		return p.explain(p.path, err)
	}
	return nil
}

// contextReader ends with the context.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.Reader.Read(b)
}

func (a *app) cpCommand() *cobra.Command {
	var f fileFlags
	cmd := &cobra.Command{
		Use:   "cp PLACE... DESTINATION",
		Short: "Copy files and directories out of an image",
		Long: `Copy files, and directories with everything in them, out of an image. The
destination is a path of this machine: a directory that is there, or the name of
the copy. Permissions and times are kept, and as root also owners, devices and extended
attributes. No link leads the copy out of the destination.

` + filesHelp,
		Example: "  b9 cp //web:root:/etc/nginx nginx\n  b9 cp disk.raw:1:/EFI /srv/boot",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return exit.Usagef("cp takes one place or more and a destination, such as `b9 cp //web:root:/etc/nginx .`")
			}
			if err := checkPlaces(args[:len(args)-1]); err != nil {
				return err
			}
			return a.copyPlaces(cmd.Context(), &f, args[:len(args)-1], args[len(args)-1])
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) copyPlaces(ctx context.Context, f *fileFlags, args []string, to string) error {
	dir, err := a.workDir()
	if err != nil {
		return err
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(dir, to)
	}
	st, err := os.Stat(to)
	into := err == nil && st.IsDir()
	if !into && len(args) > 1 {
		return exit.Usagef("%s is no directory, and %d places cannot become one file", to, len(args))
	}
	for _, arg := range args {
		p, err := a.openPlace(ctx, f, arg)
		if err != nil {
			return err
		}
		if err := errors.Join(a.copyPlace(ctx, p, to, into), p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// copyPlace copies to the path to, or with into to a name in that directory.
func (a *app) copyPlace(ctx context.Context, p *place, to string, into bool) error {
	as := filepath.Base(to)
	if !into {
		to = filepath.Dir(to)
	} else if as = filepath.Base(p.path); p.path == "." {
		as = "." // the whole image: what is in it
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	err = fsys.Copy(ctx, p.files, p.path, root, as, fsys.CopyOptions{
		Owners:  os.Geteuid() == 0,
		Skipped: func(name, why string) { fmt.Fprintf(a.stderr, "b9: %s: %s %s\n", p.what, printable("/"+name), why) },
	})
	if errors.Is(err, fs.ErrNotExist) {
		return p.explain(p.path, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	return nil
}

// place is a path in an image that is open.
type place struct {
	what  string // as the user wrote it, without the path
	path  string // as io/fs has it
	files tree.Reader
	image disk.Image
}

func (p *place) String() string { return p.what + ":" + slashed(p.path) }
func (p *place) Close() error   { return errors.Join(p.files.Close(), p.image.Close()) }

// slashed is a path of io/fs as the user writes it.
func slashed(p string) string {
	if p == "." {
		return "/"
	}
	return "/" + p
}
