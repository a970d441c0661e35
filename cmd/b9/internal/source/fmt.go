package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// Fmt is `b9 fmt`.
func Fmt(p *session.Program) *cobra.Command {
	var f formatter
	cmd := &cobra.Command{
		Use:  "fmt [FILE|DIRECTORY|-]...",
		Args: cobra.ArbitraryArgs,
		RunE: p.With(f.run),
	}
	cmd.Flags().BoolVar(&f.check, "check", false, "change nothing: list the files that would change, and fail if there are some")
	cmd.Flags().BoolVar(&f.diff, "diff", false, "change nothing: print what would change, and fail if something would")
	return cmd
}

// formatter is one run of it.
type formatter struct {
	check, diff bool
}

func (f *formatter) run(_ context.Context, s *session.Session, args []string) error {
	files, err := read(s, args)
	if err != nil {
		return err
	}
	laid, mistakes := formatAll(files)
	done := output.Formatted{Changed: []string{}}
	var text strings.Builder
	for i, file := range files {
		if laid[i] == nil {
			continue // it has a mistake
		}
		changed := !bytes.Equal(laid[i], file.data)
		switch {
		case changed:
			done.Changed = append(done.Changed, file.name)
			if err := f.tell(&text, file, laid[i]); err != nil {
				return err
			}
		case file.path == "" && !f.check && !f.diff:
			text.Write(laid[i])
		}
	}
	if err := s.Show(done, text.String()); err != nil {
		return err
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	if n := len(done.Changed); n > 0 && (f.check || f.diff) {
		return fmt.Errorf("%s: `b9 fmt` lays out what is not", output.Count(n, "file would change", "files would change"))
	}
	return nil
}

// tell does with a file that is not laid out so what was asked for.
func (f *formatter) tell(w io.Writer, file file, laid []byte) (err error) {
	switch {
	case f.diff:
		_, err = w.Write(diff.Diff(file.name, file.data, file.name+" (laid out)", laid))
	case f.check || file.path != "":
		if !f.check {
			err = file.replace(laid)
		}
		fmt.Fprintln(w, file.name)
	default:
		_, err = w.Write(laid)
	}
	return err
}

// formatAll lays files out side by side: nil for those with mistakes, which it returns.
func formatAll(files []file) (laid [][]byte, mistakes lang.Errors) {
	laid = make([][]byte, len(files))
	failed := make([]error, len(files))
	var group errgroup.Group
	group.SetLimit(8)
	for i, file := range files {
		group.Go(func() error {
			laid[i], failed[i] = style.Format(file.name, file.data)
			return nil
		})
	}
	_ = group.Wait() // no error comes from there
	for _, err := range failed {
		var some lang.Errors
		if errors.As(err, &some) {
			mistakes = append(mistakes, some...)
		}
	}
	return laid, mistakes
}
