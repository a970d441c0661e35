package inspect

import (
	"fmt"
	"slices"
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
		return p.Show(output.Builtins{Builtins: found}, Reference(named(args[0])))
	}
	return p.Show(output.Builtins{Builtins: found}, string(lines))
}

func named(name string) lang.Operation {
	all := builtins.Operations(builtins.Settings{})
	return all[slices.IndexFunc(all, func(op lang.Operation) bool { return op.Name == name })]
}

func unknownBuiltin(name string, names []string) error {
	return exit.Usagef("there is no built-in %q (have %s)%s", name, strings.Join(names, ", "), near.Hint(name, names))
}

// Reference is what `b9 builtins NAME` says about an operation.
func Reference(op lang.Operation) string {
	return reference.Text(&reference.Builtins([]lang.Operation{op}).Entries[0])
}

func describe(op lang.Operation) output.Builtin {
	o := output.Builtin{Name: op.Name, Doc: op.Doc, Example: op.Example}
	for _, p := range op.AllParams() {
		o.Params = append(o.Params, parameter(p))
	}
	return o
}

func parameter(p lang.Param) output.Parameter {
	q := output.Parameter{Name: p.Name, Type: p.Type.String(), Required: p.Required, Enum: p.Enum, Doc: p.Doc}
	if p.Default != nil {
		q.Default = p.Default.String()
	}
	return q
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
