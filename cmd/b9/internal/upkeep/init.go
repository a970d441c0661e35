package upkeep

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// templates are the workspaces that `b9 init` can begin with, a directory each.
//
//go:embed all:templates
var templates embed.FS

// templateNames are the values of --template; the first is the default.
func templateNames() []string { return []string{"data", "machine", "package"} }

// Init is `b9 init`.
func Init(p *session.Program) *cobra.Command {
	names := templateNames()
	name := names[0]
	cmd := &cobra.Command{Use: "init", RunE: func(*cobra.Command, []string) error {
		if err := command.Choice("template", name, names); err != nil {
			return err
		}
		return start(p, name)
	}}
	cmd.Flags().StringVar(&name, "template", name, "begin with the `TEMPLATE`: "+strings.Join(names, ", "))
	return cmd
}

// starter is a file of a new workspace.
type starter struct{ name, text string }

// starters are the files of a new workspace: what every one has, then the template's.
func starters(template string) ([]starter, error) {
	files := []starter{
		{lang.RootFile, "# Settings of this workspace; `b9 config` lists them all.\n"},
		{".gitignore", "/b9-out/\n"},
	}
	root := path.Join("templates", template)
	err := fs.WalkDir(templates, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := templates.ReadFile(name)
		files = append(files, starter{strings.TrimPrefix(name, root+"/"), string(data)})
		return err
	})
	return files, err
}

// start writes what a workspace needs and is not there, and says what it wrote.
func start(p *session.Program, template string) error {
	dir, err := p.WorkDir()
	if err != nil {
		return err
	}
	files, err := starters(template)
	if err != nil {
		return err
	}
	done := output.Init{Wrote: []string{}, There: []string{}}
	var text strings.Builder
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := os.MkdirAll(filepath.Dir(path), 0o777&^p.Umask); err != nil {
			return err
		}
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
