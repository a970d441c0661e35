package session

import (
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/debian"
	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/machine"
	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/repo"
)

// Evaluation says how build files are evaluated.
type Evaluation struct {
	Options  []string  // -D NAME=VALUE
	Tags     []string  // that patterns choose by; see [lang.Config]
	Query    bool      // patterns stand for targets with the tag "manual", too
	Keep     bool      // the arguments of every call
	Locked   bool      // a shared image that is not in b9.lock is an error
	ReadOnly bool      // b9.lock stays as it is
	Stderr   io.Writer // what print() writes to; nil is the console
}

// Workspace is the build files, and the shared images that they use.
type Workspace struct {
	*lang.Workspace
	Shared *share.Images
}

// Workspace opens the workspace around the working directory.
func (s *Session) Workspace(ctx context.Context, e Evaluation) (*Workspace, error) {
	root, err := lang.FindRoot(s.Dir)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	for _, o := range e.Options {
		k, v, ok := strings.Cut(o, "=")
		if !ok || k == "" {
			return nil, exit.Usagef("-D %s: want NAME=VALUE", o)
		}
		values[k] = v
	}
	if e.Stderr == nil {
		e.Stderr = s.Console
	}
	shared := share.NewImages(s.shared(e), root)
	ws, err := lang.Open(ctx, lang.Config{
		Root: root, Dir: s.Dir, Options: values, Tags: e.Tags, Manual: e.Query, Arguments: e.Keep, Out: s.resultsBelow(root), Configured: s.Config.Options, Sources: s.Config.Sources, Stderr: e.Stderr,
		Operations: builtins.Operations(builtins.Settings{
			Shared: shared, Container: s.ContainerDefaults(), Image: image.Defaults{Ext4Features: s.Config.FS.Ext4Features},
			Machine:   machine.Defaults{Timeout: s.Config.VM.Timeout.Std(), Slower: s.Config.VM.TimeoutFactor},
			Bootstrap: debian.Defaults{Mirror: s.Config.Bootstrap.Mirror, Refresh: s.Config.Bootstrap.Refresh.Std()},
		}),
		Prefixes: map[string]func(string) (string, lang.Step, error){share.Prefix: shared.Target},
	})
	if err != nil {
		return nil, err
	}
	return &Workspace{ws, shared}, nil
}

// Graph is what the patterns name in the build files, and all that it depends on.
func (s *Session) Graph(ctx context.Context, e Evaluation, patterns ...string) (*Workspace, *lang.Graph, error) {
	ws, err := s.Workspace(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	g, err := ws.Resolve(ctx, patterns)
	return ws, g, err
}

// Usable is Graph, but what no mistake keeps from being used is there beside the mistakes.
func (s *Session) Usable(ctx context.Context, e Evaluation, patterns ...string) (*Workspace, *lang.Graph, error) {
	ws, err := s.Workspace(ctx, e)
	if err != nil {
		return nil, nil, err
	}
	g, err := ws.ResolveUsable(ctx, patterns)
	return ws, g, err
}

// shared lets build files reach the repositories.
func (s *Session) shared(e Evaluation) share.Config {
	r := s.Repositories()
	return share.Config{
		Open: r.Open, Local: r.Local, Default: s.Config.DefaultRepository(), Locked: e.Locked, KeepLock: e.ReadOnly,
		Origin: s.origin, Others: slices.Sorted(maps.Keys(s.Config.Repositories)), Waiting: s.WaitsFor("it writes " + share.LockFile),
	}
}

// origin says where this machine publishes from.
func (s *Session) origin() repo.Origin {
	host, _ := os.Hostname() // only for people
	o := repo.Origin{User: os.Getenv("USER"), Host: host, B9: Version().Version}
	o.Source, o.Commit = checkedOut(s.Root)
	return o
}
