package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/engine"
	"b9/engine/config"
	"b9/engine/container"
	"b9/engine/near"
	"b9/engine/repo"
	"b9/engine/store"
)

// app is one run of the program: its streams, the flags that every command
// has, and what the commands opened.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	dir      string
	seen     string   // the absolute dir, once it was looked at
	settings []string // -c key=value
	json     bool
	quiet    bool
	verbose  bool
	storeDir string

	shared     *builtins.SharedImages // of the workspace that was opened
	documented bool                   // a document for programs was printed

	locked  bool                    // of --locked: shared images come from b9.lock only
	looks   bool                    // the command only looks: it leaves b9.lock as it is
	onLine  atomic.Bool             // a transfer's line is on the terminal
	shown   atomic.Pointer[display] // of the build that runs; nil when none does
	keys    repo.Keys               // that were opened with a passphrase
	resumes string                  // what to say of an interruption; "" for nothing
	grain   time.Duration           // of the file system's clock, for tests; see engine.Trace.Racy

	cfg     *config.Config
	store   *store.Store
	steps   *stepCache   // nil without one
	printed bytes.Buffer // what evaluation wrote to stderr
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "b9",
		Short: "Build virtual-machine images from B9BUILD.star files",
		Long: `b9 builds virtual-machine images. Build files (B9BUILD.star) record a graph of
steps; b9 makes what is asked for, each step in a container where it needs one,
and keeps every result in a content-addressed store, so that no step runs twice
for the same inputs.

A target is named by a label: //pkg:name, //pkg (for //pkg:pkg), :name in the
package of the current directory, or a file such as examples/debian.star:disk.
Patterns name several: //..., //pkg/..., //pkg:all.`,
		Example: `  b9 build //web:disk             build a target, results in b9-out/
  b9 run //web:root -- nginx -t   run a command in the built image
  b9 shell //web:root             look around, or into the step that failed
  b9 query deps //web:disk        what it is made of`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.checkGlobal() },
	}
	f := root.PersistentFlags()
	f.StringVarP(&a.dir, "directory", "C", "", "work as if started in `DIR`")
	f.StringArrayVarP(&a.settings, "config", "c", nil, "set a configuration `KEY=VALUE` (b9 config lists them)")
	f.BoolVar(&a.json, "json", false, "print results as JSON")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "print the output of every step as it comes")
	f.StringVar(&a.storeDir, "store", "", "keep the store in `DIR` (store.dir)")
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		a.buildCommand(), a.runCommand(), a.shellCommand(), a.queryCommand(), a.explainCommand(), a.logCommand(),
		a.cleanCommand(), a.cacheCommand(), a.configCommand(), a.doctorCommand(), a.imageCommand(), a.builtinsCommand(), a.initCommand(), a.versionCommand(),
		a.lsCommand(), a.catCommand(), a.cpCommand(),
		a.listCommand(), a.pushCommand(), a.pullCommand(), a.updateCommand(), a.repoCommand(), a.cleanLocalCommand(), a.cleanRemoteCommand(),
	)
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			strict(c)
		}
	}
	return root
}

// strict lets the commands that cobra adds word mistakes as all others do.
func strict(cmd *cobra.Command) {
	cmd.Args = noArgs
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(about, args[len(args)-max(len(rest), 1)])
			}
			return about.Help()
		},
	}
}

// flagError says what is wrong with a flag.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if best := near.Match(unknown.GetSpecifiedName(), names); best != "" {
			text += fmt.Sprintf(": did you mean --%s?", best)
		}
	case errors.As(err, &value) && value.GetFlag().Value.Type() == "int":
		text = fmt.Sprintf("--%s %s: want a whole number", value.GetFlag().Name, value.GetValue())
	}
	return exit.Usagef("%s: %s (see `%s --help`)", commandName(cmd), text, cmd.CommandPath())
}

// commandName is what a message calls a command: "repo list".
func commandName(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return exit.Usagef("unknown command %q%s (see `%s --help`)", name, near.Hint(name, names), cmd.CommandPath())
}

// noArgs refuses arguments in a sentence that says which.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return unknownCommand(cmd, args[0])
	}
	return exit.Usagef("%s takes no arguments, got %q", commandName(cmd), args[0])
}

func (a *app) close() {
	a.steps.close()
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			fmt.Fprintf(a.stderr, "b9: close the store: %v\n", err)
		}
		a.store = nil
	}
}

// checkGlobal checks the flags that every command has, whether it needs them or
// not.
func (a *app) checkGlobal() error {
	dir, err := a.workDir()
	if err != nil || len(a.settings) == 0 {
		return err
	}
	_, err = a.loadConfig(dir)
	return err
}

// workDir is the absolute directory the command works in.
func (a *app) workDir() (string, error) {
	if a.dir == "" {
		return os.Getwd()
	}
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return "", err
	}
	if dir == a.seen {
		return dir, nil
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", exit.Usagef("-C %s: no such directory", a.dir)
	}
	a.seen = dir
	return dir, nil
}

// config loads the configuration; outside a workspace only the user's.
func (a *app) config() (*config.Config, error) {
	if a.cfg != nil {
		return a.cfg, nil
	}
	dir, err := a.workDir()
	if err != nil {
		return nil, err
	}
	a.cfg, err = a.loadConfig(dir)
	return a.cfg, err
}

func (a *app) loadConfig(dir string) (*config.Config, error) {
	layers := config.Layers{UserFile: config.UserFile(), Env: os.Environ(), Flags: a.settings}
	if root, err := builtins.FindRoot(dir); err == nil {
		layers.WorkspaceFile = filepath.Join(root, builtins.RootFile)
	}
	if a.storeDir != "" {
		layers.Flags = append(layers.Flags, "store.dir="+a.storeDir)
	}
	cfg, err := config.Load(layers)
	if err != nil {
		return nil, exit.Usage(err)
	}
	if err := checkLocations(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

// checkLocations refuses repositories that can't be anywhere.
func checkLocations(cfg *config.Config) error {
	for _, name := range slices.Sorted(maps.Keys(cfg.Repositories)) {
		if _, err := repo.ParseLocation(cfg.Repositories[name]); err != nil {
			return exit.Usagef("%s: %s: %w", repositoryOrigin(name, cfg), config.RepositoryKey(name), err)
		}
	}
	return nil
}

// openStore opens the store and clears away what dead processes left.
func (a *app) openStore() (*store.Store, error) {
	if a.store != nil {
		return a.store, nil
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	st, err := store.Open(cfg.Store.Dir, store.Options{})
	if err != nil {
		return nil, err
	}
	a.store = st
	return st, st.Reap()
}

// workspace opens the workspace around the working directory.
func (a *app) workspace(ctx context.Context, options []string) (*builtins.Workspace, error) {
	dir, err := a.workDir()
	if err != nil {
		return nil, err
	}
	cfg, err := a.config()
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for k, v := range cfg.Options {
		values[k] = v
	}
	for _, o := range options {
		k, v, ok := strings.Cut(o, "=")
		if !ok || k == "" {
			return nil, exit.Usagef("-D %s: want NAME=VALUE", o)
		}
		values[k] = v
	}
	root, err := builtins.FindRoot(dir)
	if err != nil {
		return nil, err
	}
	a.shared = builtins.NewSharedImages(a.sharedConfig(cfg), root)
	return builtins.Open(ctx, builtins.Config{
		Root: root, Dir: dir, Options: values, Stderr: io.MultiWriter(a.stderr, &a.printed),
		Operations: builtins.Operations(builtins.Settings{Shared: a.shared, Bootstrap: builtins.Defaults{
			Ext4Features: cfg.FS.Ext4Features, Mirror: cfg.Bootstrap.Mirror, Refresh: cfg.Bootstrap.Refresh.Std(),
		}}),
		Prefixes: map[string]func(string) (string, builtins.Step, error){builtins.SharedPrefix: a.shared.Target},
	})
}

// epoch is the time for what b9 writes: SOURCE_DATE_EPOCH, else the Unix epoch.
func epoch() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	var sec int64
	if _, err := fmt.Sscanf(v, "%d", &sec); err != nil || sec < 0 {
		return time.Time{}, exit.Usagef("SOURCE_DATE_EPOCH=%s: want seconds since 1970", v)
	}
	return time.Unix(sec, 0).UTC(), nil
}

// root is the workspace around the working directory, "" outside of one.
func (a *app) root() string {
	dir, err := a.workDir()
	if err != nil {
		return ""
	}
	root, err := builtins.FindRoot(dir)
	if err != nil {
		return ""
	}
	return root
}

// engineFlags are the flags of every command that builds.
type engineFlags struct {
	jobs      int
	keepGoing bool
	options   []string
	backend   string
	out       string
	offline   bool
	refresh   bool
	locked    bool
	display   string

	// looks says that the command only looks: it places no results, and
	// leaves b9.lock as it is.
	looks bool

	one bool // the command takes a pattern that names one target

	// beside chooses outputs that a command needs beside those of its targets.
	beside func(*builtins.Graph) []engine.Ref
}

func (f *engineFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.IntVarP(&f.jobs, "jobs", "j", 0, "run at most `N` steps at once (default: one a processor)")
	fl.BoolVarP(&f.keepGoing, "keep-going", "k", false, "after a failure, still run what does not depend on it")
	fl.StringArrayVarP(&f.options, "define", "D", nil, "give the declared option NAME a value, as `NAME=VALUE`")
	fl.StringVar(&f.backend, "backend", "", "run containers with `NAME`: "+strings.Join(container.Backends(), ", "))
	fl.StringVar(&f.out, "out", "", "put results into `DIR` (default b9-out at the workspace root)")
	fl.BoolVar(&f.offline, "offline", false, "use no network; remote sources stay as last seen")
	fl.BoolVar(&f.refresh, "refresh", false, "ask remote sources again now")
	fl.BoolVar(&f.locked, "locked", false, "fail when a shared image is not in b9.lock")
	fl.StringVar(&f.display, "display", "auto", "show progress as `HOW`: auto, live, plain, json, quiet")
}

// hideOut leaves --out out of the help of a command that places nothing.
func hideOut(cmd *cobra.Command) { cmd.Flags().Lookup("out").Hidden = true }

// apply turns the flags into configuration, before it is loaded.
func (f *engineFlags) apply(a *app) error {
	if f.jobs < 0 {
		return exit.Usagef("-j %d: want 0 or more", f.jobs)
	}
	if err := checkDisplayMode(f.display); err != nil {
		return err
	}
	a.locked, a.looks = f.locked, f.looks
	if f.jobs > 0 {
		a.settings = append(a.settings, fmt.Sprintf("build.jobs=%d", f.jobs))
	}
	if f.keepGoing {
		a.settings = append(a.settings, "build.keep_going=true")
	}
	if f.backend != "" {
		a.settings = append(a.settings, "container.backend="+f.backend)
	}
	if f.out != "" {
		out, err := filepath.Abs(f.out)
		if err != nil {
			return err
		}
		a.settings = append(a.settings, "build.out="+out)
	}
	return nil
}

// newEngine returns an engine over the opened store. services are those of the
// workspace, nil where nothing is run.
func (a *app) newEngine(f *engineFlags, events func(engine.Event), services []any) (*engine.Engine, error) {
	at, err := epoch()
	if err != nil {
		return nil, err
	}
	st, err := a.openStore()
	if err != nil {
		return nil, err
	}
	a.openStepCache(f.offline)
	a.resumes = "finished steps are kept, the next build goes on from there"
	var cache engine.Cache // not a nil pointer in an interface
	if a.steps != nil {
		cache = a.steps
	}
	return engine.New(engine.Config{
		Store: st, Workspace: a.root(), Backend: a.openBackend, Jobs: a.cfg.Build.Jobs, KeepGoing: a.cfg.Build.KeepGoing,
		Actions: builtins.Actions(), Services: services, Cache: cache,
		Events: events, Epoch: at, Offline: f.offline, Refresh: f.refresh,
	}), nil
}

var errNoTargets = errors.New("name a target, such as //web:disk or //... (`b9 query` lists them)")
