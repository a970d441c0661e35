package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/style"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// Lint is `b9 lint`.
func Lint(p *session.Program) *cobra.Command {
	var fix bool
	cmd := &cobra.Command{
		Use:  "lint [FILE|DIRECTORY|-]...",
		Args: cobra.ArbitraryArgs,
		RunE: p.With(func(_ context.Context, s *session.Session, args []string) error { return lint(s, args, fix) }),
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "remove loads that nothing uses, and lay out the files that change")
	return cmd
}

func lint(s *session.Session, args []string, fix bool) error {
	files, err := read(s, args)
	if err != nil {
		return err
	}
	checker := style.NewChecker(s.Root, builtins.Operations(builtins.Settings{}))
	done := output.Lint{Found: []output.Suspicion{}, Fixed: []string{}}
	var mistakes lang.Errors
	for _, f := range files {
		if fix && f.path != "" {
			changed, err := f.fix(checker)
			if err != nil {
				return err
			}
			if changed {
				done.Fixed = append(done.Fixed, f.name)
				s.Tell("changed %s", f.name)
			}
		}
		found, err := checker.Check(f.source())
		var some lang.Errors
		if errors.As(err, &some) {
			mistakes = append(mistakes, some...)
		}
		for _, x := range found {
			done.Found = append(done.Found, output.Suspicion{Place: output.Place(x.Pos), Rule: x.Rule, Text: x.Text})
		}
	}
	var text strings.Builder
	for _, f := range done.Found {
		fmt.Fprintf(&text, "%s: %s (%s)\n", engine.Position(f.Place), f.Text, f.Rule)
	}
	if err := s.Show(done, text.String()); err != nil {
		return err
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	if n := len(done.Found); n > 0 {
		return fmt.Errorf("lint: %s", output.Count(n, "finding", "findings"))
	}
	return nil
}

// fix removes the loads that nothing uses, and reports whether there were some. A file
// with mistakes in the language stays as it is.
func (f *file) fix(checker *style.Checker) (changed bool, err error) {
	laid, err := checker.WithoutUnusedLoads(f.source())
	if err != nil || bytes.Equal(laid, f.data) {
		return false, nil //nolint:nilerr // the check says what is wrong with it
	}
	f.data = laid
	return true, f.replace(laid)
}
