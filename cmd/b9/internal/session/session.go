package session

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/repo"
	"b9.build/b9/engine/ssh"
	"b9.build/b9/engine/store"
)

// Session is a program whose configuration is loaded.
type Session struct {
	*Program
	Dir    string // absolute, that the command works in
	Root   string // of the workspace around it, "" outside of one
	Config *config.Config

	open   func() (*store.Store, error)
	opened *store.Store // by open; nil before
	keys   ssh.Keys     // that were opened with a passphrase
}

// Open loads the configuration: outside a workspace only the user's. The changes
// are flags that stand for settings. The caller closes the session.
func (p *Program) Open(changes ...func(*config.Config) error) (*Session, error) {
	layers, dir, root, err := p.Layers()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(layers)
	if err != nil {
		return nil, exit.Usage(err)
	}
	for _, change := range changes {
		if err := change(cfg); err != nil {
			return nil, err
		}
	}
	s := &Session{Program: p, Dir: dir, Root: root, Config: cfg}
	s.open = sync.OnceValues(s.openStore)
	return s, nil
}

// Layers are what the configuration is read from, the directory that the command works
// in, and the root of the workspace around it, which is "" outside of one.
func (p *Program) Layers() (l config.Layers, dir, root string, err error) {
	if dir, err = p.WorkDir(); err != nil {
		return l, "", "", err
	}
	l = config.Layers{UserFile: config.UserFile(), Env: os.Environ(), Flags: slices.Clone(p.Settings), Location: checkLocation}
	if root, err = lang.FindRoot(dir); err == nil {
		l.WorkspaceFile = workspaceFile(root)
	}
	if p.Store != "" {
		l.Flags = append(l.Flags, "store.dir="+p.Store)
	}
	return l, dir, root, nil
}

func workspaceFile(root string) string { return filepath.Join(root, lang.RootFile) }

// With is a command that does run with a session, which is closed afterwards.
func (p *Program) With(run func(ctx context.Context, s *Session, args []string) error, changes ...func(*config.Config) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		s, err := p.Open(changes...)
		if err != nil {
			return err
		}
		defer s.Close()
		return run(cmd.Context(), s, args)
	}
}

// Close closes what was opened.
func (s *Session) Close() {
	if s.opened == nil {
		return
	}
	if err := s.opened.Close(); err != nil {
		fmt.Fprintf(s.Console, "b9: close the store: %v\n", err)
	}
}

// checkLocation refuses a repository that can't be anywhere.
func checkLocation(location string) error {
	_, err := repo.ParseLocation(location)
	return err
}

// Store opens the store, the first time, and clears away what dead processes left.
func (s *Session) Store() (*store.Store, error) { return s.open() }

func (s *Session) openStore() (st *store.Store, err error) {
	told := func(d store.Damage) { s.Console.Warn("damaged: %s", d) }
	if s.opened, err = store.Open(s.Config.Store.Dir, store.Options{Damaged: told, Waiting: s.Console.Note, Interrupted: s.Interrupted, ForkAbove: s.ForkAbove}); err != nil {
		return nil, err
	}
	if err := s.opened.Reap(); err != nil {
		// What can't be cleared away costs space, and is in nobody's way.
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(s.Console, "b9: warning: %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
	return s.opened, nil
}

// WaitsFor returns a function that says which process is waited for, and what it does.
func (p *Program) WaitsFor(doing string) func(holder string) {
	return func(holder string) { p.Console.Note("waiting for " + holder + ": " + doing) }
}

// Policy is what the configuration says about collection.
func (s *Session) Policy() store.Policy {
	c := s.Config.Store
	return store.Policy{MaxSize: int64(c.MaxSize.Bytes), MaxShare: c.MaxSize.Percent, MaxAge: c.MaxAge.Std()}
}

// Relative shortens a path beneath the working directory.
func (s *Session) Relative(path string) string {
	// Of a workspace of thousands of results all are told, and most lie there.
	if rel, ok := strings.CutPrefix(path, s.Dir+string(filepath.Separator)); ok && filepath.IsLocal(rel) {
		return filepath.Clean(rel)
	}
	if rel, err := filepath.Rel(s.Dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

// ResultsDir is the directory that results are put into.
func (s *Session) ResultsDir() string {
	if filepath.IsAbs(s.Config.Build.Out) {
		return s.Config.Build.Out
	}
	return filepath.Join(s.Root, s.Config.Build.Out)
}

// resultsBelow is the directory of the results as the language has it: "" where it
// is not below the root.
func (s *Session) resultsBelow(root string) string {
	rel, err := filepath.Rel(root, s.ResultsDir())
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}

// Display is how a build is shown that was asked to be shown so: see
// [display.CheckMode].
func (s *Session) Display(mode string) display.Options {
	o := display.Options{Mode: mode, Verbosity: s.Config.Build.Verbosity, Flags: s.again()}
	switch {
	case s.Quiet:
		o.Verbosity = "quiet"
	case s.Verbose && o.Verbosity != "debug":
		o.Verbosity = "verbose"
	}
	return o
}

// lastSecond is the last whole one, since 1970, that nanoseconds count in 64 bits.
const lastSecond = math.MaxInt64/1_000_000_000 - 1

// Epoch is the time for what b9 writes: SOURCE_DATE_EPOCH, else the Unix epoch.
func Epoch() (time.Time, error) {
	v := os.Getenv("SOURCE_DATE_EPOCH")
	if v == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	sec, err := strconv.ParseInt(v, 10, 64)
	if err != nil || sec < 0 || sec > lastSecond {
		return time.Time{}, exit.Usagef("SOURCE_DATE_EPOCH=%s: want a whole number of seconds since 1970, at most %d", v, int64(lastSecond))
	}
	return time.Unix(sec, 0).UTC(), nil
}
