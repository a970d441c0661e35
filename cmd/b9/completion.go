package main

import (
	"context"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/builtins"
	"b9.build/b9/cmd/b9/internal/files"
	"b9.build/b9/cmd/b9/internal/reference"
	"b9.build/b9/cmd/b9/internal/session"
)

// offer says what can stand where in the command lines of the commands below root, for
// the shells' completion (`b9 completion bash`). It goes by the words of the usage
// (TARGET, PLACE ...) and of the flags' values (DIR, KEY=VALUE ...).
func offer(p *session.Program, root *cobra.Command) {
	for _, cmd := range root.Commands() {
		offer(p, cmd)
	}
	if strings.HasPrefix(root.CommandPath(), "b9 completion") {
		return
	}
	if find := argument(p, root); find != nil {
		root.ValidArgsFunction = find
	}
	root.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if find := value(p, f); find != nil {
			_ = root.RegisterFlagCompletionFunc(f.Name, find) // it is registered already
		}
	})
}

// argument completes what the usage of a command calls its words; nil is what the
// shell makes of them, names of files.
func argument(p *session.Program, cmd *cobra.Command) cobra.CompletionFunc {
	words := argumentWords(cmd.Use)
	if len(words) == 0 {
		return cobra.NoFileCompletions
	}
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		i := min(len(args), len(words)-1)
		if len(args) > i && !strings.HasSuffix(words[i], "...") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		switch strings.TrimSuffix(words[i], "...") {
		case "TARGET", "PATTERN":
			return labels(cmd.Context(), p, begun)
		case "PLACE":
			return places(cmd.Context(), p, begun)
		case "BUILTIN":
			return beginning(builtinNames(), begun), cobra.ShellCompDirectiveNoFileComp
		case "LIBRARY": // or a built-in
			return beginning(append(builtinNames(), libraryNames()...), begun), cobra.ShellCompDirectiveDefault
		case "KEY":
			return beginning(settingNames(p, ""), begun), cobra.ShellCompDirectiveNoFileComp
		case "VALUE":
			return beginning(settingChoices(p, args[i-1]), begun), cobra.ShellCompDirectiveDefault
		case "NAME", "FUNCTION", "BUILD", "SIZE", "PARTITION":
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveDefault
	}
}

// argumentWords are the words behind the name in a usage: what may be left out without
// its brackets, of a choice the last, flags not at all, and nothing from -- on.
func argumentWords(use string) []string {
	use, _, _ = strings.Cut(use, " [--")
	use = strings.ReplaceAll(use, " | ", "|")
	var words []string
	for _, word := range strings.Fields(use)[1:] {
		switch last := word[strings.LastIndexByte(word, '|')+1:]; {
		case strings.HasPrefix(word, "[-"):
			words = append(words, "")
		case len(words) > 0 && words[len(words)-1] == "":
			words = words[:len(words)-1] // the value of a flag
		case strings.Contains(last, "[@"):
			name, _, _ := strings.Cut(strings.TrimPrefix(last, "["), "[@")
			words = append(words, name)
		default:
			words = append(words, strings.NewReplacer("[", "", "]", "").Replace(last))
		}
	}
	return words
}

// choices finds, in what a flag says of itself, the values that it can have.
var choices = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`: ([a-z0-9_-]+(?:, [a-z0-9_-]+)+)`)
})

// value completes the value of a flag; nil is what the shell makes of it.
func value(p *session.Program, f *pflag.Flag) cobra.CompletionFunc {
	if m := choices().FindStringSubmatch(f.Usage); m != nil {
		return cobra.FixedCompletions(strings.Split(m[1], ", "), cobra.ShellCompDirectiveNoFileComp)
	}
	name, _ := pflag.UnquoteUsage(f)
	switch {
	case f.Name == "define":
		return func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return beginning(optionNames(cmd.Context(), p), begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	case f.Name == "config":
		return func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return beginning(settingNames(p, "="), begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	case name == "DIR":
		return cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	case name == "TARGET":
		return func(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return labels(cmd.Context(), p, begun)
		}
	case name == "FILE" || f.Value.Type() == "bool":
		return nil
	}
	return cobra.NoFileCompletions
}

// manyLabels is from how many labels on packages are offered first.
const manyLabels = 100

// labels completes a target.
func labels(ctx context.Context, p *session.Program, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if begun != "" && !strings.HasPrefix(begun, "/") && !strings.HasPrefix(begun, ":") {
		return nil, cobra.ShellCompDirectiveDefault // a file such as examples/debian.star
	}
	pattern := "//..."
	if strings.HasPrefix(begun, ":") {
		pattern = ":all"
	}
	found := targets(ctx, p, pattern)
	if pattern == ":all" {
		for i, label := range found {
			found[i] = label[strings.LastIndexByte(label, ':'):]
		}
	}
	found = beginning(found, begun)
	slices.Sort(found)
	directive := cobra.ShellCompDirectiveNoFileComp
	if len(found) > manyLabels {
		found, directive = packages(found, len(begun)), directive|cobra.ShellCompDirectiveNoSpace
	}
	return found, directive
}

// packages cuts labels behind the next slash or colon after n bytes.
func packages(list []string, n int) []string {
	for i, label := range list {
		if end := strings.IndexAny(label[max(n, len("//")):], "/:"); end >= 0 {
			list[i] = label[:max(n, len("//"))+end+1]
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// targets are the labels of targets that no mistake concerns.
func targets(ctx context.Context, p *session.Program, pattern string) []string {
	s, err := p.Open()
	if err != nil {
		return nil
	}
	defer s.Close()
	_, g, _ := s.Usable(ctx, session.Evaluation{ReadOnly: true, Query: true, Stderr: io.Discard}, pattern)
	if g == nil {
		return nil
	}
	var list []string
	for _, t := range g.Targets {
		list = append(list, t.Title)
	}
	return list
}

// places completes a file, a target, or a path in one.
func places(ctx context.Context, p *session.Program, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if strings.Contains(begun, ":/") {
		return files.Complete(ctx, p, begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	return labels(ctx, p, begun)
}

// optionNames are those of the options that build files declare, with "=".
func optionNames(ctx context.Context, p *session.Program) []string {
	s, err := p.Open()
	if err != nil {
		return nil
	}
	defer s.Close()
	ws, _, _ := s.Usable(ctx, session.Evaluation{ReadOnly: true, Query: true, Stderr: io.Discard}, "//...")
	if ws == nil {
		return nil
	}
	var list []string
	for _, o := range ws.Options() {
		list = append(list, o.Name+"=")
	}
	return list
}

// settingChoices are the values that a setting can have, if they are words.
func settingChoices(p *session.Program, key string) []string {
	s, err := p.Open()
	if err != nil {
		return nil
	}
	defer s.Close()
	for _, set := range s.Config.Settings() {
		if set.Key == key {
			return set.Choices
		}
	}
	return nil
}

// settingNames are the keys of the configuration, each with an end.
func settingNames(p *session.Program, end string) []string {
	s, err := p.Open()
	if err != nil {
		return nil
	}
	defer s.Close()
	var list []string
	for _, set := range s.Config.Settings() {
		list = append(list, set.Key+end)
	}
	return list
}

// commandNames completes a command.
func commandNames(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var list []string
	if about, rest, err := cmd.Root().Find(args); err == nil && len(rest) == 0 {
		for _, c := range about.Commands() {
			if c.IsAvailableCommand() {
				list = append(list, c.Name())
			}
		}
	}
	return beginning(list, begun), cobra.ShellCompDirectiveNoFileComp
}

// libraryNames are the labels of the rule libraries that come with b9.
func libraryNames() []string {
	libraries, _ := reference.Libraries() // they are a part of the program
	var list []string
	for _, p := range libraries {
		list = append(list, p.Name)
	}
	return list
}

func builtinNames() []string {
	var list []string
	for _, op := range builtins.Operations(builtins.Settings{}) {
		list = append(list, op.Name)
	}
	return list
}

// beginning are those that begin so.
func beginning(list []string, begun string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(s, begun) })
}
