package files

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/difference"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/session"
)

// Diff is `b9 diff`.
func Diff(p *session.Program) *cobra.Command {
	o := newOpener(p)
	cmd := &cobra.Command{
		Use:  "diff PLACE PLACE",
		Args: command.ExactArgs("two images, directories or targets", 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(nil); err != nil {
				return err
			}
			return exit.Comparison(o.diff(cmd.Context(), args[0], args[1]))
		},
	}
	o.register(cmd)
	return cmd
}

// diff prints in what two places differ, and returns whether they are the same.
func (o *opener) diff(ctx context.Context, first, second string) (same bool, err error) {
	a, err := o.openWhole(ctx, first)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := o.openWhole(ctx, second)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if (a.files == nil) != (b.files == nil) { // an image beside a directory: what is in it
		image, directory := a, b
		if a.files != nil {
			image, directory = b, a
		}
		if err := image.mount("", o.Console.Warn); err != nil {
			return false, fmt.Errorf("%s can't be compared with the files of %s: %w", image.name(), directory.name(), err)
		}
	}
	d, err := difference.Compare(ctx, a.side(), b.side())
	if err != nil {
		return false, err
	}
	return d.Same, o.Show(d, difference.Words(d))
}

// openWhole opens a place, but of an image, where neither a path nor a partition is named,
// the whole of it.
func (o *opener) openWhole(ctx context.Context, arg string) (*place, error) {
	what, file := splitPlace(arg)
	p := &place{what: what, path: file}
	sel, err := o.openImage(ctx, p)
	switch {
	case err != nil:
	case p.image == nil:
		err = p.isDirectory(sel)
	case sel != "" || p.path != "":
		if err = p.mount(sel, o.Console.Warn); err != nil {
			err = fmt.Errorf("%s: %w", arg, err)
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// side is the place as it is compared.
func (p *place) side() difference.Side {
	s := difference.Side{Name: p.name(), Files: p.files, Path: p.path}
	if p.files == nil {
		s.Image = p.image
	}
	return s
}

// name is the place as its user wrote it.
func (p *place) name() string {
	if p.path == "" {
		return p.what
	}
	return p.String()
}
