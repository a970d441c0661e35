package build

import (
	"cmp"
	"context"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
)

// Where a trace does not stand as a whole, the parts that do are believed, and what is
// evaluated, looked up and placed is the rest: the build files that changed or are new,
// and those that need one of them. The build then tells what it would tell if it had gone
// the whole way. It does go the whole way where that is not certain: for patterns that name
// single targets or leave some out by their tags, when half of the files or more are to be evaluated, for steps of files
// that the pattern does not name, and to tell mistakes.

// before is what stands of the build before.
type before struct {
	trace *engine.Trace
	parts map[string]bool
	named bool // the results of the trace have their names in the store
}

// evaluated is what was evaluated for a build: all that it needs, or the rest.
type evaluated struct {
	ws    *session.Workspace
	graph *lang.Graph    // nil once nobody needs it any more
	made  *lang.Detached // of the graph
	files []string       // that the pattern stands for; nil where it names other things
	rest  bool           // the graph has only what does not stand

	mistakes error // of build files, of which the graph has what can be used; nil for none
}

// evaluate finds out what there is to build.
func (b *maker) evaluate(ctx context.Context) (*evaluated, error) {
	if b.before != nil {
		if e := b.evaluateRest(ctx); e != nil {
			return e, nil
		}
		b.before = nil
	}
	e := &evaluated{}
	var err error
	if b.keepsGoing() {
		e.ws, e.graph, err = b.Usable(ctx, b.evaluation(nil), b.Patterns...)
		if err != nil && (e.graph == nil || len(e.graph.Targets) == 0) {
			return nil, err
		}
		e.mistakes = err
	} else if e.ws, e.graph, err = b.Graph(ctx, b.evaluation(nil), b.Patterns...); err != nil {
		return nil, err
	}
	if e.mistakes == nil && len(b.Patterns) == 1 && b.Config.Results.Place != unplaced && !e.ws.Partial() {
		e.files, err = e.ws.Files(ctx, b.Patterns[0])
		return e, err
	}
	return e, nil
}

// keepsGoing reports whether what no mistake concerns is built in spite of it.
func (b *maker) keepsGoing() bool { return b.Config.Build.KeepGoing && !b.ReadOnly }

func (b *maker) evaluation(stderr io.Writer) session.Evaluation {
	return session.Evaluation{Options: b.options, Tags: b.tags, Locked: b.locked, ReadOnly: b.ReadOnly, Stderr: stderr}
}

// evaluateRest evaluates what does not stand; nil is for a build that has to go the
// whole way.
func (b *maker) evaluateRest(ctx context.Context) *evaluated {
	if len(b.Patterns) != 1 || b.Config.Results.Place == unplaced {
		return nil
	}
	ws, err := b.Workspace(ctx, b.evaluation(io.Discard))
	if err != nil {
		return nil
	}
	files, err := ws.Files(ctx, b.Patterns[0])
	if err != nil || len(files) == 0 {
		return nil
	}
	changed := slices.DeleteFunc(slices.Clone(files), func(name string) bool { return b.before.parts[name] })
	if 2*len(changed) > len(files) {
		return nil
	}
	graph, err := ws.ResolveFiles(ctx, changed, b.before.options())
	if err != nil || ws.Partial() || !b.before.counts(ws.Parts(), files) || b.inTheWay(graph, files) {
		return nil
	}
	return &evaluated{ws: ws, graph: graph, files: files, rest: true}
}

// inTheWay reports whether a result of the graph would go where one of the files that stand
// is, or around it, or into it.
func (b *maker) inTheWay(g *lang.Graph, files []string) bool {
	way := b.wayOf(g)
	asked := map[string]bool{}
	for _, name := range files {
		asked[name] = true
	}
	for i := range b.before.trace.Parts {
		p := &b.before.trace.Parts[i]
		if b.before.parts[p.Name] && asked[p.Name] && slices.ContainsFunc(p.Results, way.meets) {
			return true
		}
	}
	return false
}

// way is where results go: their paths, and the directories in which they are.
type way struct {
	results map[string]lang.Placement
	around  map[string]bool
	free    string // a directory known to be none of the paths, nor in one
}

func (b *maker) wayOf(g *lang.Graph) *way {
	w := &way{results: map[string]lang.Placement{}, around: map[string]bool{}}
	for _, t := range g.Targets {
		for _, p := range t.Placements() {
			path := filepath.Join(b.ResultsDir(), p.Path)
			w.results[path] = p
			for up := filepath.Dir(path); len(up) > len(b.ResultsDir()); up = filepath.Dir(up) {
				w.around[up] = true
			}
		}
	}
	return w
}

// meets reports whether the result is another one at one of the paths, around one, or in one.
func (w *way) meets(r engine.Placed) bool {
	if p, ok := w.results[r.Path]; ok && (r.Label != p.Label || r.Output != p.Ref.Output) || w.around[r.Path] {
		return true
	}
	dir := filepath.Dir(r.Path)
	for up := dir; up != w.free && up != "." && up != "/"; up = filepath.Dir(up) {
		if _, ok := w.results[up]; ok {
			return true
		}
	}
	w.free = dir
	return false
}

// options are what the files that stand say of options.
func (o *before) options() []string {
	var all []string
	for i := range o.trace.Parts {
		if p := &o.trace.Parts[i]; o.parts[p.Name] {
			all = append(all, p.Options...)
		}
	}
	return all
}

// counts reports whether the trace tells how many steps there are. It does not where a
// file that changed begins or ends to need one that the pattern does not name and that has
// steps: how many of these others need, it does not say.
func (o *before) counts(now []lang.Part, files []string) bool {
	was, is, steps := map[string][]string{}, map[string][]string{}, map[string]int{}
	for i := range o.trace.Parts {
		p := &o.trace.Parts[i]
		was[p.Name], steps[p.Name] = p.Needs, p.Steps
	}
	for _, p := range now {
		is[p.File] = p.Needs
	}
	asked := map[string]bool{}
	for _, name := range files {
		asked[name] = true
	}
	others := func(needs map[string][]string, name string) string {
		var list []string
		for _, other := range closure(needs, name) {
			if !asked[other] && o.parts[other] && steps[other] > 0 {
				list = append(list, other)
			}
		}
		slices.Sort(list)
		return strings.Join(list, "\n")
	}
	return !slices.ContainsFunc(slices.Concat(o.trace.Files, files), func(name string) bool {
		return (!o.parts[name] || !asked[name]) && others(was, name) != others(is, name)
	})
}

// closure is what the file needs, directly and through others, and itself.
func closure(needs map[string][]string, file string) []string {
	list, seen := []string{file}, map[string]bool{file: true}
	for i := 0; i < len(list); i++ {
		for _, other := range needs[list[i]] {
			if !seen[other] {
				seen[other] = true
				list = append(list, other)
			}
		}
	}
	return list
}

// traced completes the trace that the engine left with what evaluation read, and with the
// parts of the build before that stand. The names of the parts that are new come second.
func (b *maker) traced(t *engine.Trace, e *evaluated, results map[string][]engine.Placed) (*engine.Trace, map[string]bool) {
	parts := map[string]engine.TracedPart{}
	for _, p := range t.Parts {
		parts[p.Name] = p
	}
	for _, p := range e.ws.Parts() {
		of := parts[p.File]
		of.Name, of.Needs, of.Options, of.Printed, of.Results = p.File, p.Needs, p.Options, p.Printed, results[p.File]
		of.Stamps = append(of.Stamps, p.Stamps...)
		parts[p.File] = of
	}
	t.Listed = e.ws.Listed()
	if _, nobodys := parts[""]; e.files == nil || nobodys {
		return inOnePart(t, parts, results), map[string]bool{"": true}
	}
	if e.rest {
		t.Made = b.before.trace.Made // an hour after that everything is looked at
		t.Shelves = b.before.trace.Shelves
		t.Tools = append(t.Tools, b.before.trace.Tools...)
		for _, p := range b.before.trace.Parts {
			if b.before.parts[p.Name] {
				parts[p.Name] = p
			}
		}
	}
	t.Files = e.files
	t.Parts = needed(parts, e.files)
	fresh := map[string]bool{}
	for _, p := range t.Parts {
		fresh[p.Name] = !e.rest || !b.before.parts[p.Name]
	}
	return t, fresh
}

// needed are the parts of the files and what they need, by name.
func needed(parts map[string]engine.TracedPart, files []string) []engine.TracedPart {
	var list []engine.TracedPart
	todo := slices.Clone(files)
	for len(todo) > 0 {
		name := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if p, ok := parts[name]; ok {
			delete(parts, name)
			list = append(list, p)
			todo = append(todo, p.Needs...)
		}
	}
	slices.SortFunc(list, func(a, b engine.TracedPart) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// inOnePart puts everything into one part: the order of the results is that of patterns.
func inOnePart(t *engine.Trace, parts map[string]engine.TracedPart, results map[string][]engine.Placed) *engine.Trace {
	var all engine.TracedPart
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		all.Printed += p.Printed
		all.Steps += p.Steps
		all.Stamps, all.Sources = append(all.Stamps, p.Stamps...), append(all.Sources, p.Sources...)
	}
	all.Results = results[""]
	t.Files, t.Parts = []string{""}, []engine.TracedPart{all}
	return t
}
