package build

import (
	"cmp"
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"time"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/exit"
	"b9.build/b9/cmd/b9/internal/history"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// Request is what a command wants built.
type Request struct {
	Flags
	Patterns []string
	Results  io.Writer // where the list of results is printed; nil for nowhere

	// Aside says of which targets the results are no results of the command, and are told
	// beside them; nil for none.
	Aside func(*lang.Graph) bool
	// ReadOnly puts no results anywhere, and leaves b9.lock as it is.
	ReadOnly bool
	// One refuses patterns that do not name exactly one target.
	One bool
	// final says that nobody goes on with what was evaluated.
	final bool
	// Backing makes the images that overlays stand on, too, if they were not asked for.
	Backing bool
}

// Built is a finished build that a command goes on to use.
type Built struct {
	Graph  *lang.Graph
	Result *engine.Result
}

// Do builds what is requested, of one pattern at least, writes the results into the
// output directory, and prints them. An error of a step is printed already.
func Do(ctx context.Context, s *session.Session, r Request) (*Built, error) {
	return (&maker{Session: s, Request: r}).do(ctx)
}

// maker is one command that builds.
type maker struct {
	*session.Session
	Request
	placements []lang.Placement // of the results; of no use where b.ReadOnly is set
	before     *before          // what stands of the build before; nil for nothing that is known

	started time.Time
	log     *history.Log // nil for none
	ran     output.Build // what is known of what ran, for the log

	grain time.Duration // of the file system's clock, for tests; see [engine.Racy]
}

// do builds, and keeps a log of it.
func (b *maker) do(ctx context.Context) (*Built, error) {
	b.started = time.Now()
	end, err := b.begin()
	if err != nil {
		return nil, err
	}
	built, err := b.make(ctx)
	return built, errors.Join(err, end(ctx, err))
}

func (b *maker) make(ctx context.Context) (*Built, error) {
	e, err := b.evaluate(ctx)
	if err != nil {
		return nil, err
	}
	ws, graph := e.ws, e.graph
	if b.One && len(graph.Targets) != 1 {
		return nil, exit.Usagef("%s names %d targets: a command runs in one", strings.Join(b.Patterns, " "), len(graph.Targets))
	}
	if b.Aside != nil && b.Aside(graph) {
		b.Results = aside(b.Quiet, b.Console)
	}
	if b.placements, err = graph.Placements(); err != nil && !b.ReadOnly {
		return nil, err
	}
	if b.rerunning, err = rerunning(ctx, ws, graph, b.rerun, b.keepsGoing()); err != nil {
		return nil, err
	}
	refs := b.wanted(graph)
	if e.made = graph.Detach(); b.final {
		ws.Release()
		e.graph, graph = nil, nil
	}
	d, end := b.Console.Build(b.shownAs())
	defer end()
	events := func(e engine.Event) { d.Event(e); b.log.Event(e); b.Log.Event(e) }
	r, result, err := b.execute(ctx, events, ws, refs)
	if result == nil {
		return nil, err
	}
	if err = errors.Join(e.mistakes, err); !b.ReadOnly && (err == nil || ctx.Err() == nil) {
		err = b.settle(ctx, d, e, result, r, err)
	}
	if b.twice && err == nil {
		err = b.checkReproducible(ctx, events, ws, refs, result, r)
	}
	if r.Shared = ws.Shared.Resolved(); e.rest && r.trace != nil {
		r.Shared = share.Traced(r.trace)
	}
	published, perr := ws.Shared.Published(ctx, result)
	r.Published, err = published, errors.Join(err, perr)
	took := time.Since(b.started)
	r.Seconds, b.ran = took.Seconds(), r.Build
	d.Finish(display.Summary{Executed: r.Executed, Cached: r.Cached, Err: err, Interrupted: ctx.Err() != nil, Took: took, Notes: b.notes(r)})
	if terr := b.tell(r, err); terr != nil {
		return nil, terr
	}
	if err != nil && len(r.Irreproducible) == 0 { // which no step told
		err = reported(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	return &Built{Graph: graph, Result: result}, b.collect(ctx, r.store)
}

// shownAs is how the build is shown: with what earlier ones tell of it.
func (b *maker) shownAs() display.Options {
	o := b.Display(b.display)
	o.Jobs = cmp.Or(b.Config.Build.Jobs, runtime.NumCPU())
	o.Took = func() map[string]time.Duration {
		st, err := b.Store()
		if err != nil {
			return nil // the build says so
		}
		return history.In(st.Dir()).Took(b.Root)
	}
	return o
}

// settle writes the results, of a build that failed those that there are, and says what is
// missing and what is out of date. It returns the error of the build.
func (b *maker) settle(ctx context.Context, d *display.Display, e *evaluated, res *engine.Result, r *report, failure error) error {
	if failure != nil {
		r.NotBuilt = notBuilt(e.made, res)
		return errors.Join(failure, b.writeFinished(ctx, d, res, r), b.findStale(e, res, r))
	}
	if err := b.writeResults(ctx, d, e, res, r); err != nil {
		return err
	}
	if err := b.findStale(e, res, r); err != nil {
		return err
	}
	b.remember(r)
	return nil
}

// reported marks the error of a step, which the display has printed.
func reported(ctx context.Context, err error) error {
	var step *engine.StepError
	if ctx.Err() == nil && errors.As(err, &step) {
		return exit.Reported(err)
	}
	return exit.Resumes(err, resumes)
}

// resumes is how a build goes on that was interrupted.
const resumes = "finished steps are kept, the next build goes on from there"

// wanted are the outputs that are to be made.
func (b *maker) wanted(graph *lang.Graph) []engine.Ref {
	if b.Backing { // whoever goes on with the build chooses among all outputs
		return append(Refs(graph), backing(graph)...)
	}
	return Wanted(graph)
}

// execute runs the steps. Without a result it did not come that far.
func (b *maker) execute(ctx context.Context, events func(engine.Event), ws *session.Workspace, refs []engine.Ref) (*report, *engine.Result, error) {
	m, err := open(b.Session, b.Flags, ws, events)
	if err != nil {
		return nil, nil, err
	}
	result, err := m.Build(ctx, refs...)
	return &report{store: m.store, root: ws.Root(), Build: output.Build{Executed: result.Executed, Cached: result.Cached}}, result, errors.Join(err, m.Close())
}

// Wanted are the outputs of the targets that `b9 build` is asked for.
func Wanted(g *lang.Graph) []engine.Ref {
	var refs []engine.Ref
	for _, t := range g.Targets {
		refs = append(refs, t.Wanted()...)
	}
	return refs
}

// Refs are the outputs of the targets.
func Refs(g *lang.Graph) []engine.Ref {
	var refs []engine.Ref
	for _, t := range g.Targets {
		refs = append(refs, t.Refs...)
	}
	return refs
}

// cachedEngine is an engine, and the store and the cache that it uses.
type cachedEngine struct {
	*engine.Engine
	store *store.Store
	steps *stepCache // nil for none
}

// open returns an engine over the session's store. Without a workspace nothing is run.
func open(s *session.Session, f Flags, ws *session.Workspace, events func(engine.Event)) (*cachedEngine, error) {
	at, err := session.Epoch()
	if err != nil {
		return nil, err
	}
	st, err := s.Store()
	if err != nil {
		return nil, err
	}
	cfg := engine.Config{
		Store: st, Workspace: s.Root, Backend: s.Backend, Jobs: s.Config.Build.Jobs, KeepGoing: s.Config.Build.KeepGoing,
		Actions: builtins.Actions(),
		Events:  events, TellParts: f.events != "", Epoch: at, Offline: f.offline, Refresh: f.refresh, Rerun: f.rerunning,
	}
	if ws != nil {
		cfg.Services = []any{ws.Shared}
	}
	var steps *stepCache
	if !f.alone {
		steps = openStepCache(s, f.offline)
	}
	if steps != nil { // not a nil pointer in an interface
		cfg.Cache = steps
	}
	return &cachedEngine{engine.New(cfg), st, steps}, nil
}

// Close ends what the engine and the cache still do.
func (m *cachedEngine) Close() error {
	err := m.Engine.Close()
	m.steps.close()
	return err
}

// collect keeps the store within its configured bounds, now and then.
func (b *maker) collect(ctx context.Context, st *store.Store) error {
	_, err := st.AutoCollect(ctx, b.Policy())
	return err
}
