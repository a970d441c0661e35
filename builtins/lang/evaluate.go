package lang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.starlark.net/resolve"
	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/engine"
)

// errDependency ends the evaluation of a file that loads one whose own
// mistakes are reported already.
var errDependency = errors.New("a loaded file has mistakes")

// evaluate runs the module and closes its done channel. What went wrong is
// in m.errs, m.missing and m.failed.
func (w *Workspace) evaluate(ctx context.Context, m *module) {
	defer close(m.done)
	defer func() {
		if r := recover(); r != nil {
			m.fail(&Error{Pos: engine.Position{File: m.id, Line: 1, Col: 1}, Msg: fmt.Sprintf("the evaluation panicked: %v\n%s", r, debug.Stack())})
		}
	}()
	src, err := m.read()
	if errors.Is(err, fs.ErrNotExist) {
		m.missing, m.failed = true, true
		return
	}
	if err != nil {
		m.fail(&Error{Pos: engine.Position{File: m.id, Line: 1, Col: 1}, Msg: fmt.Sprintf("cannot be read: %v", err), cause: err})
		return
	}
	program, err := w.compile(m, src)
	if err == nil {
		err = w.execute(ctx, m, program)
	}
	if err != nil && !errors.Is(err, errDependency) {
		found := evaluationErrors(err, knownNames(w.env))
		for _, e := range found {
			m.tellMeant(e)
		}
		m.errs = append(m.errs, found...)
	}
	m.failed = err != nil
}

// knownNames lists what every file finds defined, by b9 or by the language.
func knownNames(env starlark.StringDict) []string {
	names := append(env.Keys(), starlark.Universe.Keys()...)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), isGuard)
}

func (m *module) fail(e *Error) {
	m.errs = append(m.errs, e)
	m.failed = true
}

// fileOptions is the dialect: sets, and if and for outside of functions; no
// while, no recursion, no reassignment of globals.
func fileOptions() *syntax.FileOptions {
	return &syntax.FileOptions{Set: true, TopLevelControl: true}
}

// MaxFile is how many bytes programs about the text of Starlark files read of one.
const MaxFile = 64 << 20

// parse checks that a file is text, and parses it.
func parse(name string, src []byte) (*syntax.File, error) {
	// The scanner ends at a NUL byte, and reads what is not UTF-8 as U+FFFD.
	var mistake *engine.PositionError
	if errors.As(engine.CheckText(name, string(src)), &mistake) {
		return nil, &Error{Pos: mistake.Position, Msg: mistake.Msg}
	}
	return fileOptions().Parse(name, src, 0)
}

// ParseFile parses what a build file or a library may hold, for programs about
// their text: nothing is resolved or evaluated. The error is an [Errors].
func ParseFile(name string, src []byte) (*syntax.File, error) {
	file, err := parse(name, src)
	if err != nil {
		return nil, Errors(evaluationErrors(err, nil))
	}
	return file, nil
}

// Resolve finds out what each name in a parsed file stands for, given the operations:
// the identifiers then have their bindings. The error is an [Errors].
func Resolve(file *syntax.File, operations []Operation) error {
	env := environment(operations)
	if err := resolve.File(file, env.Has, starlark.Universe.Has); err != nil {
		return Errors(evaluationErrors(err, env.Keys()))
	}
	return nil
}

func (w *Workspace) compile(m *module, src []byte) (*starlark.Program, error) {
	file, err := parse(m.id, src)
	if err != nil {
		return nil, err
	}
	if err := guardFile(file); err != nil {
		return nil, err
	}
	m.noteLoads(file.Stmts)
	return starlark.FileProgram(file, w.env.Has)
}

// noteLoads remembers which names each load() statement wants, and where, so
// that a misspelling can be placed exactly.
func (m *module) noteLoads(stmts []syntax.Stmt) {
	for _, s := range stmts {
		load, ok := s.(*syntax.LoadStmt)
		if !ok {
			continue
		}
		if m.wanted == nil {
			m.wanted, m.loads = map[string][]wantedName{}, map[string]engine.Position{}
		}
		label := load.ModuleName()
		if _, again := m.loads[label]; !again {
			m.loads[label] = positionOf(load.Module.TokenPos)
		}
		for _, from := range load.From {
			m.wanted[label] = append(m.wanted[label], wantedName{from.Name, positionOf(from.NamePos)})
		}
	}
}

// execute runs the program and freezes what it made. The context, the number
// of steps and the caller's limits on memory and time end it cleanly.
func (w *Workspace) execute(ctx context.Context, m *module, program *starlark.Program) error {
	thread, stop := w.thread(ctx, m)
	defer stop()
	thread.Load = func(thread *starlark.Thread, label string) (starlark.StringDict, error) {
		return w.loadFor(ctx, m, label)
	}
	globals, err := program.Init(thread, w.env)
	if err != nil {
		return stopped(ctx, err)
	}
	if err := checkKept(globals); err != nil {
		return &Error{Pos: engine.Position{File: m.id, Line: 1, Col: 1}, Msg: err.Error()}
	}
	globals.Freeze()
	m.globals = globals
	return nil
}

// thread is one that runs what belongs to the module, until the context ends or the
// interpreter has taken as many steps as it may. The caller calls stop at the end.
func (w *Workspace) thread(ctx context.Context, m *module) (thread *starlark.Thread, stop func() bool) {
	thread = &starlark.Thread{Name: m.id, Print: w.print}
	thread.SetLocal(localKey, m)
	thread.SetMaxExecutionSteps(w.cfg.Limits.Steps)
	thread.OnMaxSteps = func(thread *starlark.Thread) {
		thread.Cancel(fmt.Sprintf("it took more than %d steps", w.cfg.Limits.Steps))
	}
	return thread, context.AfterFunc(ctx, func() { thread.Cancel(context.Cause(ctx).Error()) })
}

// cancelled begins what the interpreter says of an evaluation that was stopped.
const cancelled = "Starlark computation cancelled: "

// stopped gives the error of a cancelled evaluation our words and its cause.
func stopped(ctx context.Context, err error) error {
	var run *starlark.EvalError
	if !errors.As(err, &run) || !strings.HasPrefix(run.Msg, cancelled) {
		return err
	}
	e := runError(run)
	e.Msg = "evaluation stopped: " + strings.TrimPrefix(run.Msg, cancelled)
	e.cause = context.Cause(ctx)
	return e
}

// print writes what print() was given, with the place of the call before it.
func (w *Workspace) print(thread *starlark.Thread, msg string) {
	moduleOf(thread).warnf("%s: %s", positionOf(thread.CallFrame(1).Pos), msg)
}

// warnf prints one whole line for the user, whoever else prints.
func (m *module) warnf(format string, args ...any) {
	w, line := m.ws, fmt.Sprintf(format+"\n", args...)
	w.stderr.Lock()
	defer w.stderr.Unlock()
	m.restsOn.printed = append(m.restsOn.printed, line...)
	if w.cfg.Stderr != nil {
		_, _ = io.WriteString(w.cfg.Stderr, line)
	}
}

// grace is how long a file that was told to stop may take to do so.
const grace = time.Second

// loadAll evaluates the build files that are not yet, with all processors,
// and returns when all are done. An error means that the evaluation was
// stopped; mistakes in the files are left in the modules.
func (w *Workspace) loadAll(ctx context.Context, files []Label) error {
	return w.bounded(ctx, func(ctx context.Context) { w.runWorkers(ctx, files) })
}

// bounded evaluates something within the limits of time and memory. An error means that
// it was stopped.
//
// A file can be busy in one call of the interpreter that looks at no limit
// (hashing a value that contains itself a billion times over, for example).
// Its goroutine is then abandoned, and the workspace with it.
func (w *Workspace) bounded(ctx context.Context, run func(context.Context)) error {
	limit := w.cfg.Limits.Time
	ctx, cancelTime := context.WithTimeoutCause(ctx, limit, fmt.Errorf("evaluation took longer than %s", limit))
	defer cancelTime()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.memory = newMemoryWatch(w.cfg.Limits.Memory)
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	watching := time.NewTicker(10 * time.Millisecond)
	defer watching.Stop()
	for {
		select {
		case <-done:
			return context.Cause(ctx)
		case <-ctx.Done():
			return w.awaitStop(ctx, done)
		case <-watching.C:
			if err := w.memory.check(); err != nil {
				cancel(err)
			}
		}
	}
}

// awaitStop gives cancelled files a moment to stop.
func (w *Workspace) awaitStop(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return context.Cause(ctx)
	case <-time.After(grace):
		w.broken = fmt.Errorf("evaluation stopped: %w (in %s)", context.Cause(ctx), strings.Join(w.running(), ", "))
		return w.broken
	}
}

// running names the files whose evaluation has not ended.
func (w *Workspace) running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ids []string
	for id, m := range w.modules {
		if !m.ended() && m.blockedOn == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (w *Workspace) runWorkers(ctx context.Context, files []Label) {
	// A worker evaluates many files: its stack, once grown for the interpreter,
	// serves all of them.
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(files)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(files)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				w.loadOne(ctx, files[i])
			}
		})
	}
	workers.Wait()
}

// loadOne evaluates the file unless it has been claimed already; then it
// waits for its end.
func (w *Workspace) loadOne(ctx context.Context, base Label) {
	w.mu.Lock()
	m, mine := w.claimLocked(base.file(), Label{Pkg: base.Pkg, File: base.File}, false)
	w.mu.Unlock()
	w.finish(ctx, m, mine)
}

// finish evaluates a module that the caller has claimed, and waits for the end
// of any other. It reports whether the module has ended.
func (w *Workspace) finish(ctx context.Context, m *module, mine bool) bool {
	if mine {
		w.evaluate(ctx, m)
		return true
	}
	select {
	case <-m.done:
		return true
	case <-ctx.Done():
		return false
	}
}
