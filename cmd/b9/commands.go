package main

import (
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

// commands is `b9` with all its commands. Their flags set those of p.
func commands(p *session.Program) *cobra.Command {
	root := program(p)
	register(root.PersistentFlags(), &p.Flags)
	root.SetFlagErrorFunc(command.FlagError)
	root.SetHelpCommand(help())
	root.AddCommand(
		build.Command(p), build.Run(p), build.Shell(p), build.Explain(p), build.Log(p), build.Builds(p), build.Profile(p), build.Graph(p), build.Watch(p), build.Test(p),
		inspect.Query(p), inspect.Affected(p), inspect.Builtins(p), inspect.Doc(p), inspect.Config(p), inspect.Doctor(p), inspect.Version(p), inspect.Manual(p),
		files.Ls(p), files.Cat(p), files.Cp(p), files.Diff(p),
		source.Fmt(p), source.Lint(p), lsp.Command(p),
		image.Command(p),
		repository.List(p), repository.Push(p), repository.Pull(p), repository.Update(p), repository.Command(p),
		repository.CleanLocal(p), repository.CleanRemote(p),
		upkeep.Init(p), upkeep.Clean(p), upkeep.Cache(p),
	)
	others := otherWords()
	for _, c := range root.Commands() {
		c.SuggestFor = others[c.Name()]
	}
	root.SetOut(p.Out) // which the next command looks at now
	root.InitDefaultCompletionCmd()
	complete(root, helpTexts())
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
