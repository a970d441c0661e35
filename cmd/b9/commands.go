package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9.build/b9/cmd/b9/internal/build"
	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/files"
	"b9.build/b9/cmd/b9/internal/image"
	"b9.build/b9/cmd/b9/internal/inspect"
	"b9.build/b9/cmd/b9/internal/lsp"
	"b9.build/b9/cmd/b9/internal/repository"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/cmd/b9/internal/source"
	"b9.build/b9/cmd/b9/internal/upkeep"
)

// subcommands are the commands of `b9` by their names.
func subcommands() map[string]func(*session.Program) *cobra.Command {
	return map[string]func(*session.Program) *cobra.Command{
		"build": build.Command, "run": build.Run, "shell": build.Shell, "explain": build.Explain, "log": build.Log, "builds": build.Builds,
		"profile": build.Profile, "graph": build.Graph, "watch": build.Watch, "test": build.Test,
		"query": inspect.Query, "affected": inspect.Affected, "builtins": inspect.Builtins, "doc": inspect.Doc, "config": inspect.Config,
		"doctor": inspect.Doctor, "version": inspect.Version, "man": inspect.Manual,
		"ls": files.Ls, "cat": files.Cat, "cp": files.Cp, "diff": files.Diff,
		"fmt": source.Fmt, "lint": source.Lint, "lsp": lsp.Command,
		"image": image.Command,
		"list":  repository.List, "push": repository.Push, "pull": repository.Pull, "update": repository.Update, "repo": repository.Command,
		"clean-local": repository.CleanLocal, "clean-remote": repository.CleanRemote,
		"init": upkeep.Init, "clean": upkeep.Clean, "cache": upkeep.Cache,
	}
}

// commands is `b9` with all its commands, or at least those that a command line names: all
// have hundreds of flags, which take a tenth of the time of a build with nothing to do.
// Their flags set those of p.
func commands(p *session.Program, args ...string) *cobra.Command {
	root := program(p)
	register(root.PersistentFlags(), &p.Flags)
	root.SetFlagErrorFunc(command.FlagError)
	root.SetHelpCommand(help())
	list, others := subcommands(), otherWords()
	names := slices.Sorted(maps.Keys(list))
	if named := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !slices.Contains(args, name) }); len(named) > 0 {
		names = named
	}
	for _, name := range names {
		c := list[name](p)
		c.SuggestFor = others[name]
		root.AddCommand(c)
	}
	if found, _, err := root.Find(args); len(names) < len(list) && (err != nil || found == root || found.Name() == "man") {
		return commands(p) // what they are is to be told
	}
	root.SetOut(p.Out) // which the next command looks at now
	root.InitDefaultCompletionCmd()
	complete(root)
	return root
}

// otherWords are what other programs call the commands.
func otherWords() map[string][]string {
	return map[string][]string{
		"build":    {"make", "compile"},
		"run":      {"exec"},
		"shell":    {"enter", "attach", "debug", "ssh"},
		"explain":  {"why"},
		"query":    {"targets", "show"},
		"diff":     {"compare", "changes"},
		"graph":    {"dot", "diagram"},
		"profile":  {"timeline", "trace", "times"},
		"builtins": {"rules", "reference"},
		"config":   {"settings", "get"},
		"init":     {"new", "create"},
		"list":     {"images", "tags", "search"},
		"push":     {"upload", "publish"},
		"pull":     {"download"},
		"image":    {"img", "disk"},
		"cache":    {"store", "prune"},
		"clean":    {"rm", "purge"},
		"update":   {"upgrade", "lock"},
		"test":     {"check", "verify"},
	}
}

// program is `b9` itself.
func program(p *session.Program) *cobra.Command {
	version := false
	cmd := &cobra.Command{
		Use:               "b9",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return command.Unknown(cmd, args[0])
			}
			if version {
				return inspect.PrintVersion(p)
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	cmd.Flags().BoolVarP(&version, "version", "V", false, "print the version, as `b9 version` does")
	return cmd
}

// register adds the flags that every command has.
func register(to *pflag.FlagSet, f *session.Flags) {
	to.StringVarP(&f.Dir, "directory", "C", "", "work as if started in `DIR`")
	to.StringArrayVarP(&f.Settings, "config", "c", nil, "set a configuration `KEY=VALUE` (b9 config lists them)")
	to.BoolVar(&f.JSON, "json", false, "print results as JSON")
	to.BoolVarP(&f.Quiet, "quiet", "q", false, "print results and errors only")
	to.BoolVarP(&f.Verbose, "verbose", "v", false, "print the output of every step as it comes")
	to.StringVar(&f.LogTo, "log-file", "", "write down what happens, too, to `WHERE`: a FILE, which is written on, stderr or journal")
	to.StringVar(&f.LogLevel, "log-level", "", "write down this `LEVEL` and above: error, warn, info, debug")
	to.StringVar(&f.Store, "store", "", "keep the store in `DIR` (store.dir)")
}
