package lsp

import (
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// workspace is what evaluating the build files shows. It happens beside the conversation,
// whenever a file was saved.
type workspace struct {
	session *session.Session
	root    string // "" outside of a workspace
	told    func(file string, mistakes []*lang.Error)

	stop context.CancelFunc
	done chan struct{} // closed when evaluation has ended
	wake chan string   // the file that was saved

	mu      sync.Mutex
	targets []target
	ready   chan struct{} // closed when the targets are known
}

// target is a label and the place of the call that declares it.
type target struct {
	label, builtin, doc string
	pos                 engine.Position // the file below the root
}

func (s *server) openWorkspace() (*workspace, error) {
	opened, err := s.program.Open()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &workspace{session: opened, root: opened.Root, told: s.publishMistakes, stop: stop, done: make(chan struct{}), wake: make(chan string, 64), ready: make(chan struct{})}
	if w.root == "" {
		close(w.ready)
		close(w.done)
		return w, nil
	}
	go w.run(ctx)
	return w, nil
}

// close waits for the evaluation, which has the session. The caller does not hold the
// server's lock, which that may want.
func (w *workspace) close() {
	w.stop()
	<-w.done
	w.session.Close()
}

// evaluate asks for the file to be evaluated, and the targets to be listed anew.
func (w *workspace) evaluate(file string) {
	if w.root == "" {
		return
	}
	select {
	case w.wake <- file:
	default: // it has enough to do
	}
}

// run evaluates what was saved, and lists the targets.
func (w *workspace) run(ctx context.Context) {
	defer close(w.done)
	w.list(ctx)
	close(w.ready)
	for {
		select {
		case <-ctx.Done():
			return
		case file := <-w.wake:
			w.look(ctx, file)
			w.list(ctx)
		}
	}
}

// look evaluates one file and tells of its mistakes, or that it has none.
func (w *workspace) look(ctx context.Context, file string) {
	rel, err := filepath.Rel(w.root, file)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	pattern := "//" + filepath.ToSlash(rel) + ":all"
	if filepath.Base(rel) == lang.BuildFile {
		pattern = "//" + strings.TrimPrefix(path.Dir(filepath.ToSlash(rel)), ".") + ":all"
	}
	_, err = w.graph(ctx, pattern)
	var list lang.Errors
	errors.As(err, &list)
	byFile := map[string][]*lang.Error{file: nil}
	for _, e := range list {
		if e.Pos.File != "" && !strings.HasPrefix(e.Pos.File, "@") {
			name := filepath.Join(w.root, filepath.FromSlash(e.Pos.File))
			byFile[name] = append(byFile[name], e)
		}
	}
	for name, mistakes := range byFile {
		w.told(name, mistakes)
	}
}

// list keeps the targets that there are now. While a file has mistakes those that were
// there before stay.
func (w *workspace) list(ctx context.Context) {
	g, err := w.graph(ctx, "//...")
	if err != nil {
		return
	}
	var all []target
	for _, t := range g.Targets {
		all = append(all, target{label: t.Label.String(), builtin: t.Builtin, doc: t.Doc, pos: t.Position})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.targets = all
}

func (w *workspace) graph(ctx context.Context, pattern string) (*lang.Graph, error) {
	_, g, err := w.session.Graph(ctx, session.Evaluation{ReadOnly: true, Stderr: io.Discard}, pattern)
	return g, err
}

// known returns the targets, as of the last evaluation without mistakes.
func (w *workspace) known() []target {
	<-w.ready
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clip(w.targets)
}
