package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"

	"b9.build/b9/cmd/b9/internal/command"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
)

// Watch is `b9 watch`.
func Watch(p *session.Program) *cobra.Command {
	var f Flags
	builds := 0
	cmd := &cobra.Command{
		Use:  "watch TARGET...",
		Args: command.SomeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			if builds < 0 {
				return exit.Usagef("--builds %d: want 0 or more", builds)
			}
			return watch(cmd.Context(), p, f, args, builds)
		},
	}
	f.Register(cmd)
	cmd.Flags().IntVar(&builds, "builds", 0, "end after `N` builds; 0 means never")
	return cmd
}

// watch builds, and again whenever a file changes: most builds, or for 0 until it is
// interrupted. What changes while a build runs counts for the next one.
func watch(ctx context.Context, p *session.Program, f Flags, patterns []string, most int) error {
	var w *watcher
	for n := 1; ; n++ {
		s, err := p.Open(f.Configure) // b9.toml may have changed, too
		if err == nil && w == nil {
			if w, err = newWatcher(s, f.events); err == nil {
				defer w.Close()
			}
		}
		if err == nil {
			err = (&maker{Session: s, Request: Request{Flags: f, Patterns: patterns, Results: p.Out}}).run(ctx)
			s.Close()
		}
		status, _ := exit.Of(ctx, err)
		if n == most || w == nil || ctx.Err() != nil || n == 1 && status == exit.WrongUsage {
			return err
		}
		if err != nil {
			p.Status(ctx, err)
		}
		p.Tell("waiting for a change in %s (Ctrl-C ends)", output.Count(len(w.WatchList()), "directory", "directories"))
		name, err := w.wait(ctx)
		if err != nil {
			return err
		}
		p.Tell("%s changed", name)
	}
}

// watcher tells of changes in the directories of a workspace.
type watcher struct {
	*fsnotify.Watcher
	root  string
	apart []string // paths below which b9 itself writes, and what is no source
}

// quiet is for how long nothing must change before a build begins, and settled after what
// time it begins in any case: editors and version control write many files at once.
const (
	quiet   = 100 * time.Millisecond
	settled = 2 * time.Second
)

// newWatcher watches the workspace, but not the file that events are written to, "" for none.
func newWatcher(s *session.Session, events string) (*watcher, error) {
	if s.Root == "" {
		_, err := s.Workspace(context.Background(), session.Evaluation{}) // which says what is missing
		return nil, err
	}
	n, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &watcher{Watcher: n, root: s.Root, apart: []string{s.ResultsDir(), s.Config.Store.Dir, filepath.Join(s.Root, ".git")}}
	if events != "" {
		path, err := s.Path(events)
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		w.apart = append(w.apart, path)
	}
	for _, dir := range append([]string{s.Root}, values(s.Config.Sources)...) {
		if err := w.add(dir + "/"); err != nil { // the end follows a link
			return nil, errors.Join(err, n.Close())
		}
	}
	return w, nil
}

func values(m map[string]string) (list []string) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// add watches a directory and those below it. What is gone by then is nothing to watch,
// and neither is what may not be read.
func (w *watcher) add(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
			return nil
		case err != nil:
			return err
		case !e.IsDir():
			return nil
		case w.isApart(path):
			return fs.SkipDir
		}
		err = w.Add(path)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			return fmt.Errorf("%s: this machine watches no more directories: raise fs.inotify.max_user_watches (sysctl -w fs.inotify.max_user_watches=524288)", path)
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission):
			return nil
		}
		return err
	})
}

func (w *watcher) isApart(path string) bool {
	for _, dir := range w.apart {
		if path == dir || strings.HasPrefix(path, dir+string(filepath.Separator)) {
			return true
		}
	}
	return false
}

// wait waits until something has changed and nothing does any more, and names what did
// first, seen from the root.
func (w *watcher) wait(ctx context.Context) (name string, err error) {
	var still, late <-chan time.Time
	for {
		select {
		case e := <-w.Events:
			if w.isApart(e.Name) {
				continue
			}
			if e.Has(fsnotify.Create) {
				if err := w.add(e.Name); err != nil {
					return "", err
				}
			}
			if name == "" {
				name, late = w.relative(e.Name), time.After(settled)
			}
			still = time.After(quiet)
		case err := <-w.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return "", err
			}
			return "much", w.add(w.root + "/") // among it new directories
		case <-still:
			return name, nil
		case <-late:
			return name, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

func (w *watcher) relative(path string) string {
	if rel, err := filepath.Rel(w.root, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
