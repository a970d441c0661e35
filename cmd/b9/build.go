package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"b9/builtins"
	"b9/cmd/b9/internal/exit"
	"b9/cmd/b9/internal/output"
	"b9/engine"
	"b9/engine/size"
	"b9/engine/store"
)

func (a *app) buildCommand() *cobra.Command {
	var f engineFlags
	cmd := &cobra.Command{
		Use:   "build TARGET...",
		Short: "Build targets and put the results into b9-out/",
		Long: `Build targets and put the results into b9-out/, by label. For each result one
line goes to standard output: path, size and content digest, separated by tabs.
With --json sizes are exact, in bytes.`,
		Example: "  b9 build //web:disk\n  b9 build //...\n  b9 build examples/debian.star:disk -D suite=trixie",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.buildOrTell(cmd.Context(), &f, args)
		},
	}
	f.register(cmd)
	return cmd
}

// built is a finished build that a command goes on to use.
type built struct {
	graph  *builtins.Graph
	result *engine.Result
	engine *engine.Engine
}

// buildOrTell prints the results of a build that has nothing to do, or does
// the build.
func (a *app) buildOrTell(ctx context.Context, f *engineFlags, patterns []string) error {
	started := time.Now()
	if err := a.prepare(f, patterns); err != nil {
		return err
	}
	r, err := a.again(ctx, f, patterns)
	if err != nil {
		return err
	}
	if r == nil {
		_, err := a.make(ctx, f, patterns)
		return err
	}
	r.Seconds = time.Since(started).Seconds()
	d := a.newDisplay(f.display)
	d.Finish(summary{Cached: r.Cached, Took: time.Since(started)})
	d.Close()
	a.tellShared(r.Shared)
	if err := a.printReport(r, nil); err != nil {
		return err
	}
	return a.collect(ctx)
}

// prepare checks what does not need the workspace, and loads the configuration.
func (a *app) prepare(f *engineFlags, patterns []string) error {
	if len(patterns) == 0 {
		return exit.Usage(errNoTargets)
	}
	if err := f.apply(a); err != nil {
		return err
	}
	_, err := a.config()
	return err
}

// build makes the targets, places them and prints the results.
func (a *app) build(ctx context.Context, f *engineFlags, patterns []string) (*built, error) {
	if err := a.prepare(f, patterns); err != nil {
		return nil, err
	}
	return a.make(ctx, f, patterns)
}

func (a *app) make(ctx context.Context, f *engineFlags, patterns []string) (*built, error) {
	started := time.Now()
	ws, err := a.workspace(ctx, f.options)
	if err != nil {
		return nil, err
	}
	graph, err := ws.Resolve(ctx, patterns)
	if err != nil {
		return nil, err
	}
	if f.one && len(graph.Targets) != 1 {
		return nil, exit.Usagef("%s names %d targets: a command runs in one", strings.Join(patterns, " "), len(graph.Targets))
	}
	d := a.newDisplay(f.display)
	a.shown.Store(d)
	defer func() {
		a.shown.Store(nil)
		d.Close()
	}()
	eng, err := a.newEngine(f, d.Event, []any{a.shared})
	if err != nil {
		return nil, err
	}
	refs := graphRefs(graph)
	if f.beside != nil {
		refs = append(refs, f.beside(graph)...)
	}
	result, err := eng.Build(ctx, refs...)
	err = errors.Join(err, eng.Close())
	r := report{Root: ws.Root()}
	r.Executed, r.Cached = result.Executed, result.Cached
	if err == nil && !f.looks {
		err = a.placeAll(ctx, ws, graph, result, &r)
	}
	if err == nil && !f.looks {
		a.remember(f, patterns, ws, &r)
	}
	r.Seconds = time.Since(started).Seconds()
	d.Finish(summary{Executed: r.Executed, Cached: r.Cached, Err: err, Interrupted: ctx.Err() != nil, Took: time.Since(started)})
	r.Shared = a.shared.Resolved()
	a.tellShared(r.Shared)
	published, perr := a.shared.Published(ctx, result)
	if perr != nil {
		err = errors.Join(err, perr)
	}
	r.Published = published
	a.tellPublished(r.Published)
	if perr := a.printReport(&r, err); perr != nil {
		return nil, perr
	}
	if err != nil {
		if ctx.Err() == nil && isStepError(err) {
			err = exit.ErrReported
		}
		return nil, err
	}
	return &built{graph: graph, result: result, engine: eng}, a.collect(ctx)
}

func isStepError(err error) bool {
	var step *engine.StepError
	return errors.As(err, &step)
}

func graphRefs(g *builtins.Graph) []engine.Ref {
	var refs []engine.Ref
	for _, t := range g.Targets {
		refs = append(refs, t.Refs...)
	}
	return refs
}

// report is what a build made.
type report struct {
	output.Build
	Root  string
	Trace *engine.Trace // of a build that went well
}

// placeAll puts every output of every target beneath the output directory.
func (a *app) placeAll(ctx context.Context, ws *builtins.Workspace, g *builtins.Graph, res *engine.Result, r *report) error {
	out := a.cfg.Build.Out
	if !filepath.IsAbs(out) {
		out = filepath.Join(ws.Root(), out)
	}
	var err error
	if r.Trace, err = res.Trace(ctx); err != nil {
		return err
	}
	placer := engine.NewPlacer(out)
	names := map[string][]store.Object{}
	placed := map[builtins.Placement]bool{}
	for _, t := range g.Targets {
		for _, p := range t.Placements() {
			if placed[p] {
				continue // asked for twice: as itself, and in a group
			}
			placed[p] = true
			art := res.Artifact(p.Ref)
			done, err := placer.Place(ctx, art, p.Path, p.Mode)
			if err != nil {
				return errors.Join(err, placer.Close())
			}
			done.Label, done.Output = p.Label, p.Ref.Output
			r.Trace.Results = append(r.Trace.Results, done)
			names[p.Label] = append(names[p.Label], art.Object())
		}
	}
	r.Results = a.shownResults(r.Trace.Results)
	return errors.Join(placer.Close(), a.store.NameResults(ws.Root(), names))
}

// shownResults is how results are printed.
func (a *app) shownResults(list []engine.Placed) []output.Result {
	shown := make([]output.Result, len(list))
	for i, r := range list {
		shown[i] = output.Result{Label: r.Label, Output: r.Output, Path: a.relative(r.Path), Size: r.Size, Digest: r.Object.Digest.String()}
	}
	return shown
}

// relative shortens a path beneath the working directory.
func (a *app) relative(path string) string {
	dir, err := a.workDir()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}

func (a *app) printReport(r *report, err error) error {
	if a.json {
		if err != nil {
			r.Error, r.Errors = err.Error(), output.Failures(err)
		}
		if r.Results == nil {
			r.Results = []output.Result{}
		}
		return a.print(r.Build)
	}
	if len(r.Results) > 100 && isTerminal(a.stdout) {
		_, err := fmt.Fprintf(a.stdout, "%d results in %s\n", len(r.Results), a.cfg.Build.Out)
		return err
	}
	var text []byte
	for _, p := range r.Results {
		text = fmt.Appendf(text, "%s\t%s\t%s\n", p.Path, size.About(p.Size), p.Digest)
	}
	_, werr := a.stdout.Write(text)
	return werr
}

// collect keeps the store within its configured bounds, now and then.
func (a *app) collect(ctx context.Context) error {
	_, err := a.store.AutoCollect(ctx, store.Policy{MaxSize: int64(a.cfg.Store.MaxSize), MaxAge: time.Duration(a.cfg.Store.MaxAge)})
	return err
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && isTTY(f)
}
