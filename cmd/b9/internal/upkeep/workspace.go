// Package upkeep holds the commands that make a workspace, and tidy it and the
// store: init, clean and cache. What may be removed, the store decides.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
)

// starterBuild is the first build file of a new workspace: it needs no
// network and no container.
const starterBuild = `# Targets of this package. Try: b9 build //:data
image(
    name = "data",
    doc = "an empty ext4 data image",
    size = "64M",
    label = "data",
)
`

// Init is `b9 init`.
func Init(p *session.Program) *cobra.Command {
	return &cobra.Command{Use: "init", RunE: func(*cobra.Command, []string) error { return start(p) }}
}

// start writes what a workspace needs, and says what it wrote.
func start(p *session.Program) error {
	dir, err := p.WorkDir()
	if err != nil {
		return err
	}
	done := output.Init{Wrote: []string{}, There: []string{}}
	var text strings.Builder
	for _, f := range []struct{ name, text string }{
		{lang.RootFile, "# Settings of this workspace; `b9 config` lists them all.\n"},
		{lang.BuildFile, starterBuild},
	} {
		path := filepath.Join(dir, f.name)
		wrote, err := writeNew(path, f.text, 0o666&^p.Umask)
		switch {
		case err != nil:
			return err
		case wrote:
			done.Wrote = append(done.Wrote, path)
			fmt.Fprintf(&text, "wrote %s\n", path)
		default:
			done.There = append(done.There, path)
			fmt.Fprintf(&text, "%s is there already\n", path)
		}
	}
	return p.Show(done, text.String())
}

// writeNew writes a file unless it is there.
func writeNew(path, text string, mode fs.FileMode) (wrote bool, err error) {
	err = config.WriteNew(path, text, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// Clean is `b9 clean`.
func Clean(p *session.Program) *cobra.Command {
	return &cobra.Command{Use: "clean", RunE: p.With(clean)}
}

func clean(ctx context.Context, s *session.Session, _ []string) error {
	root, err := lang.FindRoot(s.Dir)
	if err != nil {
		return err
	}
	if _, err := engine.RemoveResults(ctx, s.ResultsDir(), s.WaitsFor("it places results")); err != nil {
		return err
	}
	st, err := s.Store()
	if err != nil {
		return err
	}
	kept, err := st.Failed()
	if err != nil {
		return err
	}
	for _, k := range kept {
		if _, workspace := engine.SplitStepName(k.Name); workspace != root {
			continue
		}
		if err := st.DropFailed(k.Name); err != nil {
			return err
		}
	}
	return errors.Join(st.ForgetResults(root), st.ForgetResults(s.ResultsDir()))
}
