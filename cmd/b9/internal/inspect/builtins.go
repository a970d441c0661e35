package inspect

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine/near"
)

// Builtins is `b9 builtins`.
func Builtins(p *session.Program) *cobra.Command {
	return &cobra.Command{
		Use:  "builtins [BUILTIN]",
		Args: command.OneAtMost("name"),
		RunE: func(_ *cobra.Command, args []string) error { return list(p, args) },
	}
}

func list(p *session.Program, args []string) error {
	var found []output.Builtin
	var names []string
	for _, op := range builtins.Operations(builtins.Settings{}) {
		names = append(names, op.Name)
		if len(args) == 0 || op.Name == args[0] {
			found = append(found, describe(op))
		}
	}
	if len(found) == 0 {
		return unknownBuiltin(args[0], names)
	}
	var lines []byte
	for _, op := range found {
		lines = fmt.Appendf(lines, "%-12s %s\n", op.Name, firstLine(op.Doc))
	}
	if len(args) > 0 {
		lines = []byte(text(found[0]))
	}
	return p.Show(output.Builtins{Builtins: found}, string(lines))
}

func unknownBuiltin(name string, names []string) error {
	return exit.Usagef("there is no built-in %q (have %s)%s", name, strings.Join(names, ", "), near.Hint(name, names))
}

// Reference is what `b9 builtins NAME` says about an operation.
func Reference(op lang.Operation) string { return text(describe(op)) }

func describe(op lang.Operation) output.Builtin {
	o := output.Builtin{Name: op.Name, Doc: op.Doc, Example: op.Example}
	for _, p := range op.AllParams() {
		q := output.Parameter{Name: p.Name, Type: p.Type.String(), Required: p.Required, Enum: p.Enum, Doc: p.Doc}
		if p.Default != nil {
			q.Default = p.Default.String()
		}
		o.Params = append(o.Params, q)
	}
	return o
}

func text(o output.Builtin) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s(): %s\n\nParameters:\n", o.Name, o.Doc)
	for _, p := range o.Params {
		fmt.Fprintf(&b, "  %s: %s", p.Name, p.Type)
		switch {
		case p.Required:
			b.WriteString(", required")
		case p.Default != "":
			fmt.Fprintf(&b, ", default %s", p.Default)
		}
		if len(p.Enum) > 0 {
			fmt.Fprintf(&b, ", one of %s", strings.Join(p.Enum, ", "))
		}
		fmt.Fprintf(&b, "\n      %s\n", p.Doc)
	}
	if o.Example != "" {
		fmt.Fprintf(&b, "\nExample:\n  %s\n", strings.ReplaceAll(o.Example, "\n", "\n  "))
	}
	return b.String()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
