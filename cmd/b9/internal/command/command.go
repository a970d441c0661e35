// Package command is what the command lines of all commands have alike: how a
// mistake in them is worded ([FlagError], [Unknown]), how many arguments there may
// be ([NoArgs], [Exactly], [AtLeast]), and flags that several have ([Define]). It
// knows no command.
package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/near"
)

// Name is what a message calls a command: "repo list".
func Name(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// FlagError says what is wrong with a flag.
func FlagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		switch best := flagMeant(unknown, names); {
		case best != "":
			text += fmt.Sprintf(": did you mean --%s?", best)
		case strings.HasPrefix(unknown.GetSpecifiedShortnames(), "/") || strings.HasPrefix(unknown.GetSpecifiedShortnames(), ":"):
			text = fmt.Sprintf("-%s: a pattern behind a minus is no flag: write it behind `--`, as in `b9 build -- //... -//pkg:name`", unknown.GetSpecifiedShortnames())
		}
	case errors.As(err, &value) && value.GetFlag().Value.Type() == "int":
		text = fmt.Sprintf("--%s %s: want a whole number", value.GetFlag().Name, value.GetValue())
	}
	if cmd.HasParent() {
		text = Name(cmd) + ": " + text
	}
	return exit.Usagef("%s (see `%s --help`)", text, cmd.CommandPath())
}

// flagMeant is the name of the flag that was meant, or "": one that is spelt alike, or
// one that was written with a single dash, of which the end is left.
func flagMeant(unknown *pflag.NotExistError, names []string) string {
	end := unknown.GetSpecifiedShortnames()
	if end == "" {
		return near.Match(unknown.GetSpecifiedName(), names)
	}
	for _, name := range names {
		if len(end) > 2 && strings.HasSuffix(name, end) {
			return name
		}
	}
	return ""
}

// Unknown says that cmd has no command of that name, and which was meant: one that other
// programs call so (cobra.Command.SuggestFor), one below another command, or one that
// is spelt alike.
func Unknown(cmd *cobra.Command, name string) error {
	var names []string
	hint := ""
	each(cmd, func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), cmd.CommandPath()+" ")
		if c.Parent() == cmd {
			names = append(names, path)
		}
		if hint == "" && (c.Name() == name || slices.Contains(c.SuggestFor, name)) {
			hint = fmt.Sprintf(": did you mean %q?", path)
		}
	})
	if hint == "" {
		hint = near.Hint(name, names)
	}
	return exit.Usagef("unknown command %q%s (see `%s --help`)", name, hint, cmd.CommandPath())
}

// each calls visit for every command below cmd that the help lists.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			visit(c)
			each(c, visit)
		}
	}
}

// NoArgs refuses arguments in a sentence that says which.
func NoArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return Unknown(cmd, args[0])
	}
	return exit.Usagef("%s takes no arguments, got %q", Name(cmd), args[0])
}

// ExactArgs wants n arguments, and says which when there are others.
func ExactArgs(what string, n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return Exactly(n, Name(cmd)+" takes "+what+", got %d arguments (see `"+cmd.CommandPath()+" --help`)")(cmd, args)
	}
}

// Exactly wants n arguments. The sentence, which has a %d for how many there are,
// says what is wrong with another number.
func Exactly(n int, sentence string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return exit.Usagef(sentence, len(args))
		}
		return nil
	}
}

// AtLeast wants n arguments or more. The sentence says what is missing.
func AtLeast(n int, sentence string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return exit.Usagef("%s", sentence)
		}
		return nil
	}
}

// OneAtMost wants one argument or none, and calls it what.
func OneAtMost(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return exit.Usagef("%s takes one %s, got %d", Name(cmd), what, len(args))
		}
		return nil
	}
}

// SomeTargets wants a target at least.
func SomeTargets(cmd *cobra.Command, args []string) error {
	return AtLeast(1, "name a target, such as //web:disk or //... (`b9 query` lists them)")(cmd, args)
}

// Choice wants one of the choices as the value of a flag, which it calls --NAME.
func Choice(flag, value string, choices []string) error {
	if slices.Contains(choices, value) {
		return nil
	}
	return exit.Usagef("--%s %s: want %s%s", flag, value, strings.Join(choices, ", "), near.Hint(value, choices))
}

// Define adds the flag -D, whose values are NAME=VALUE.
func Define(to *pflag.FlagSet, options *[]string) {
	to.StringArrayVarP(options, "define", "D", nil, "give the declared option NAME a value, as `NAME=VALUE`")
}

// NoneEmpty refuses flags with a text that were given an empty one, as by "$UNSET" in a
// script: they would be as good as not given.
func NoneEmpty(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && err == nil {
			want, _ := pflag.UnquoteUsage(f)
			err = exit.Usagef("--%s has an empty value: want %s, or leave it out", f.Name, want)
		}
	})
	return err
}

// First is the first argument, "" where there is none.
func First(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// SplitDash separates what stands before `--` from what follows it.
func SplitDash(cmd *cobra.Command, args []string) (before, after []string) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}
