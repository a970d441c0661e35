package main

import (
	_ "embed"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
)

// helpText is what `b9 help COMMAND` says beside the flags: a section for each
// command, which begins with "== " and the command's path. Its first line is what
// the list of commands says; examples come last. Where [PLACE] stands, the section
// of that name is shown.
//
//go:embed help.txt
var helpText string

// sectionOf is the section of a name in help.txt.
func sectionOf(name string) (text string, ok bool) {
	_, rest, ok := strings.Cut(helpText, "== "+name+"\n")
	text, _, _ = strings.Cut(rest, "\n== ")
	return text, ok
}

// complete gives a command, and those below it, their sections. Those that do not
// say otherwise take no arguments, and print their help if they do nothing else.
func complete(cmd *cobra.Command) {
	if text, ok := sectionOf(cmd.CommandPath()); ok {
		if strings.Contains(text, "[PLACE]\n") {
			place, _ := sectionOf("PLACE")
			text = strings.ReplaceAll(text, "[PLACE]\n", strings.TrimPrefix(place, "\n"))
		}
		short, text, _ := strings.Cut(text, "\n")
		long, example, _ := strings.Cut(text, "\nExamples:\n")
		cmd.Short, cmd.Long, cmd.Example = short, strings.TrimSpace(long), strings.TrimRight(example, "\n")
	}
	// Cobra's own commands word mistakes as all others do.
	if cmd.Args == nil || strings.HasPrefix(cmd.CommandPath(), cmd.Root().Name()+" completion") {
		cmd.Args = command.NoArgs
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, c := range cmd.Commands() {
		complete(c)
	}
}

func help() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command", // cobra adds it after complete
		Args:  cobra.ArbitraryArgs,

		ValidArgsFunction: commandNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return command.Unknown(about, args[len(args)-max(len(rest), 1)])
			}
			return about.Help()
		},
	}
}
