package inspect

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/reference"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/near"
)

// docForms are the values of --format.
var docForms = [...]string{"text", "markdown", "html"}

// Doc is `b9 doc`.
func Doc(p *session.Program) *cobra.Command {
	form := docForms[0]
	cmd := &cobra.Command{
		Use: "doc [BUILTIN|LIBRARY] [FUNCTION]",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return exit.Usagef("doc takes a name, or a library and a name, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := command.Choice("format", form, docForms[:]); err != nil {
				return err
			}
			parts, one, err := wanted(p, args)
			if err != nil {
				return err
			}
			switch {
			case p.JSON:
				return p.Print(documented(parts))
			case form == "markdown":
				return reference.Markdown(p.Out, parts)
			case form == "html":
				return reference.HTML(p.Out, parts)
			}
			return p.Show(nil, told(parts, one))
		},
	}
	cmd.Flags().StringVar(&form, "format", form, "print as `FORM`: "+strings.Join(docForms[:], ", "))
	return cmd
}

// told is parts for a terminal: one name or library wholly, else a list.
func told(parts []reference.Part, one bool) string {
	if !one {
		return reference.List(parts)
	}
	var b strings.Builder
	for _, p := range parts {
		if p.Doc != "" {
			b.WriteString(p.Name + ": " + p.Doc + "\n\n")
		}
		for i := range p.Entries {
			if i > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(reference.Text(&p.Entries[i]))
		}
	}
	return b.String()
}

// wanted is what the arguments name: everything, one library, or one name of what comes
// with b9 or of a library. One is not asked for everything.
func wanted(p *session.Program, args []string) (parts []reference.Part, one bool, err error) {
	all, err := everything()
	if err != nil || len(args) == 0 {
		return all, false, err
	}
	name := args[len(args)-1]
	if strings.HasSuffix(args[0], ".star") {
		library, err := libraryOf(p, all, args[0])
		if err != nil || len(args) == 1 {
			return []reference.Part{library}, true, err
		}
		all = []reference.Part{library}
	} else if len(args) == 2 {
		return nil, false, exit.Usagef("doc: %s is no library, whose name ends in .star; one name is wanted then", args[0])
	}
	var names []string
	for _, part := range all {
		for _, e := range part.Entries {
			if names = append(names, e.Name); e.Name == name {
				part.Doc, part.Entries = "", []reference.Entry{e}
				parts = append(parts, part)
				break
			}
		}
	}
	if parts == nil {
		return nil, false, exit.Usagef("doc: there is no %q%s (`b9 doc` lists what there is)", name, near.Hint(name, names))
	}
	return parts, true, nil
}

// everything is what comes with b9.
func everything() ([]reference.Part, error) {
	libraries, err := reference.Libraries()
	parts := []reference.Part{reference.Builtins(builtins.Operations(builtins.Settings{})), reference.Language()}
	return append(parts, libraries...), err
}

// libraryOf is the library with that label: one that comes with b9, or a file, by its path
// or from the root of the workspace on.
func libraryOf(p *session.Program, all []reference.Part, label string) (reference.Part, error) {
	if strings.HasPrefix(label, "@b9//") {
		var names []string
		for _, part := range all {
			if names = append(names, part.Name); part.Name == label {
				return part, nil
			}
		}
		return reference.Part{}, exit.Usagef("doc: there is no library %s%s", label, near.Hint(label, names))
	}
	path, err := libraryPath(p, label)
	if err != nil {
		return reference.Part{}, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return reference.Part{}, exit.Usagef("doc: %s: there is no such library: write @b9//NAME.star, //DIRECTORY/NAME.star or the path of a file", label)
	}
	if err != nil {
		return reference.Part{}, err
	}
	return reference.Library(label, data)
}

func libraryPath(p *session.Program, label string) (string, error) {
	below, ok := strings.CutPrefix(label, "//")
	if !ok {
		return p.Path(label)
	}
	dir, err := p.WorkDir()
	if err != nil {
		return "", err
	}
	root, err := lang.FindRoot(dir)
	return filepath.Join(root, filepath.FromSlash(strings.Replace(below, ":", "/", 1))), err
}

// documented is parts for programs.
func documented(parts []reference.Part) output.Reference {
	doc := output.Reference{Parts: []output.ReferencePart{}}
	for _, p := range parts {
		part := output.ReferencePart{Name: p.Name, Doc: p.Doc, Entries: []output.ReferenceEntry{}}
		for _, e := range p.Entries {
			row := output.ReferenceEntry{Name: e.Name, Call: e.Call, Doc: e.Doc, Example: e.Example}
			for _, q := range e.Params {
				row.Params = append(row.Params, parameter(q))
			}
			for _, a := range e.Args {
				row.Params = append(row.Params, output.Parameter{Name: a.Name, Doc: a.Doc})
			}
			part.Entries = append(part.Entries, row)
		}
		doc.Parts = append(doc.Parts, part)
	}
	return doc
}
