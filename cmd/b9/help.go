package main

import (
	_ "embed"
	"strings"

	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
)

// helpText is what `b9 help COMMAND` says beside the flags: a section for each
// command, which begins with "== " and the command's path. Examples come last.
//
//go:embed help.txt
var helpText string

// helpTexts are the sections by path.
func helpTexts() map[string]string {
	texts := map[string]string{}
	for section := range strings.SplitSeq("\n"+helpText, "\n== ") {
		path, text, _ := strings.Cut(section, "\n")
		texts[path] = text
	}
	return texts
}

// describe gives a command, and those below it, their sections. What a command says
// itself, because others say the same, follows its section.
func describe(cmd *cobra.Command, texts map[string]string) {
	if text, ok := texts[cmd.CommandPath()]; ok {
		long, example, _ := strings.Cut(text, "\nExamples:\n")
		cmd.Long = strings.TrimSpace(long + "\n" + cmd.Long)
		cmd.Example = strings.TrimRight(example, "\n")
	}
	for _, c := range cmd.Commands() {
		describe(c, texts)
	}
}

func help() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return command.Unknown(about, args[len(args)-max(len(rest), 1)])
			}
			return about.Help()
		},
	}
}
