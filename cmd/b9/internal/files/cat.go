package files

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/session"
)

// Cat is `b9 cat`.
func Cat(p *session.Program) *cobra.Command {
	o := newOpener(p)
	cmd := &cobra.Command{
		Use:     "cat PLACE...",
		Short:   "Print files that lie in an image",
		Long:    "Print files that lie in an image to standard output, without mounting it.\n\n" + help,
		Example: "  b9 cat //web:root:/etc/hostname\n  b9 cat disk.qcow2:2:/etc/fstab",
		Args:    command.AtLeast(1, "name a file, such as //web:root:/etc/hostname or disk.raw:/etc/hostname"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(args); err != nil {
				return err
			}
			for _, arg := range args {
				if err := o.cat(cmd.Context(), arg); err != nil {
					return err
				}
			}
			return nil
		},
	}
	o.register(cmd)
	return cmd
}

func (o *opener) cat(ctx context.Context, arg string) error {
	p, err := o.open(ctx, arg)
	if err != nil {
		return err
	}
	return errors.Join(p.cat(ctx, o.Out), p.Close())
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
