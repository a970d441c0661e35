package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"b9/builtins"
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

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Make the current directory a workspace",
		Long:  "Write an empty b9.toml, which marks the root of a workspace, and a first B9BUILD.star where there is none.",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := a.workDir()
			if err != nil {
				return err
			}
			if err := a.writeNew(filepath.Join(dir, builtins.RootFile), "# Settings of this workspace; `b9 config` lists them all.\n"); err != nil {
				return err
			}
			return a.writeNew(filepath.Join(dir, builtins.BuildFile), starterBuild)
		},
	}
}

// writeNew writes a file unless it is there.
func (a *app) writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		_, err = fmt.Fprintf(a.stdout, "%s is there already\n", path)
		return err
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "wrote %s\n", path)
	return err
}
