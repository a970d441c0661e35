package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
)

// Cat is `b9 cat`.
func Cat(p *session.Program) *cobra.Command {
	o := newOpener(p)
	cmd := &cobra.Command{
		Use:  "cat PLACE...",
		Args: command.AtLeast(1, "name a file, such as //web:root:/etc/hostname or disk.raw:/etc/hostname"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			return o.each(cmd.Context(), args, func(ctx context.Context, p *place) error { return p.cat(ctx, o.Out) })
		},
	}
	o.register(cmd)
	return cmd
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
	out := &output.Checked{To: w}
	if _, err := io.Copy(out, engine.Interruptible(ctx, in)); err != nil && out.Err == nil {
		return p.explain(p.path, err)
	}
	return out.Err
}

// Cp is `b9 cp`.
func Cp(p *session.Program) *cobra.Command {
	o := newOpener(p)
	cmd := &cobra.Command{
		Use:  "cp PLACE... DESTINATION",
		Args: command.AtLeast(2, "cp takes one place or more and a destination, such as `b9 cp //web:root:/etc/nginx .`"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args[:len(args)-1]); err != nil {
				return err
			}
			return o.copyAll(cmd.Context(), args[:len(args)-1], args[len(args)-1])
		},
	}
	o.register(cmd)
	return cmd
}

func (o *opener) copyAll(ctx context.Context, args []string, to string) error {
	to, err := o.Path(to)
	if err != nil {
		return err
	}
	st, err := os.Stat(to)
	into := err == nil && st.IsDir()
	if !into && len(args) > 1 {
		return exit.Usagef("%s is no directory, and %d places cannot become one file", to, len(args))
	}
	return o.each(ctx, args, func(ctx context.Context, p *place) error { return p.copy(ctx, to, into, o.Console) })
}

// copy copies to the path to, or with into to a name in that directory.
func (p *place) copy(ctx context.Context, to string, into bool, console io.Writer) error {
	if real, err := filepath.EvalSymlinks(to); err == nil {
		to = real // a symbolic link stays one
	}
	as := filepath.Base(to)
	if !into {
		if st, err := os.Lstat(to); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link to no file, and is left as it is: write to another name", to)
		}
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
		Skipped: func(name, why string) { fmt.Fprintf(console, "b9: %s: %s %s\n", p.what, printable("/"+name), why) },
	})
	if errors.Is(err, fs.ErrNotExist) {
		return p.explain(p.path, err)
	}
	if err != nil {
		return store.SpaceError(to, fmt.Errorf("%s: %w", p.what, err))
	}
	return nil
}
