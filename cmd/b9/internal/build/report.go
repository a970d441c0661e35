package build

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/builtins/share"
	"b9.build/b9/cmd/b9/internal/display"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// report is what a build made.
type report struct {
	output.Build
	store *store.Store
	root  string
	trace *engine.Trace // of a build that went well

	placed iter.Seq[*engine.Placed] // the results; nil for none

	evaluated map[string]bool // the parts of the trace that are not of the build before
}

// writeResults puts every output of every target into the output directory.
func (b *maker) writeResults(ctx context.Context, d *display.Display, e *evaluated, res *engine.Result, r *report) error {
	t, err := res.Trace(ctx)
	if err != nil {
		return err
	}
	placed, err := b.placeAll(ctx, d, res)
	if err != nil {
		return err
	}
	results := e.byFile(b.placements, placed)
	results[""] = placed // all of them, where the trace has one part
	r.trace, r.evaluated = b.traced(t, e, results)
	if e.rest {
		r.Cached = max(0, r.trace.Steps()-r.Executed)
		if err := b.print(r.trace); err != nil {
			return err
		}
	}
	r.placed = r.trace.Results()
	if e.rest && b.before.named { // the others have their names
		return r.name(pointers(placed))
	}
	return r.name(r.placed)
}

// name has the store keep the objects of results.
func (r *report) name(list iter.Seq[*engine.Placed]) error {
	names := map[string][]store.Object{}
	for p := range list {
		names[p.Label] = append(names[p.Label], p.Object)
	}
	return r.store.NameResults(r.root, names)
}

// pointers yields the elements of a list where they are.
func pointers[T any](list []T) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

// placeAll puts all results where they belong.
func (b *maker) placeAll(ctx context.Context, d *display.Display, res *engine.Result) ([]engine.Placed, error) {
	wanted := make([]engine.Wanted, len(b.placements))
	for i, p := range b.placements {
		wanted[i] = engine.Wanted{Artifact: res.Artifact(p.Ref), Label: p.Label, Output: p.Ref.Output, Path: p.Path, Mode: p.Mode}
	}
	return b.place(ctx, d, wanted)
}

// byFile are the results of the targets that were asked for, by their build files. As a
// rule those of a file are one after the other in placed, and are not copied.
func (e *evaluated) byFile(placements []lang.Placement, placed []engine.Placed) map[string][]engine.Placed {
	at := make(map[string]int, len(placements))
	for i, p := range placements {
		at[p.Path] = i
	}
	results, from := map[string][]engine.Placed{}, map[string]int{} // from: where they begin in placed, -1 for a copy
	for _, t := range e.made.Targets {
		for _, p := range t.Placements {
			of, i := results[t.File], at[p.Path]
			if of == nil {
				from[t.File] = i
			}
			if begin := from[t.File]; begin >= 0 && i == begin+len(of) {
				results[t.File] = placed[begin : i+1 : i+1]
				continue
			}
			from[t.File] = -1
			results[t.File] = append(of, placed[i])
		}
	}
	return results
}

// writeFinished puts what was done of a build that failed into the output directory. There
// is no trace of it.
func (b *maker) writeFinished(ctx context.Context, d *display.Display, res *engine.Result, r *report) error {
	var wanted []engine.Wanted
	for _, p := range b.placements {
		if a := res.Artifact(p.Ref); a != nil {
			wanted = append(wanted, engine.Wanted{Artifact: a, Label: p.Label, Output: p.Ref.Output, Path: p.Path, Mode: p.Mode})
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	placed, err := b.place(ctx, d, wanted)
	if err != nil {
		return err
	}
	r.placed = pointers(placed)
	return r.name(r.placed)
}

// unplaced is the value of results.place with which results stay in the store.
const unplaced = "none"

// place puts the results where the settings say.
func (b *maker) place(ctx context.Context, d *display.Display, wanted []engine.Wanted) ([]engine.Placed, error) {
	how := b.Config.Results.Place
	if how == unplaced {
		return engine.Unplaced(wanted)
	}
	return engine.Place(ctx, engine.Destination{Dir: b.ResultsDir(), Umask: b.Umask, Link: how == "link", Placing: d.Placing}, wanted)
}

// shown is a result as it is printed.
func (b *maker) shown(r *engine.Placed) output.Result {
	shown := output.Result{Label: r.Label, Output: r.Output, Size: r.Size, Digest: r.Object.Digest.String()}
	if r.Path != "" {
		shown.Path = b.Relative(r.Path)
	}
	return shown
}

// tell prints what was made, or found made, or why it was not.
func (b *maker) tell(r *report, err error) error {
	if !b.JSON {
		for _, l := range r.Shared {
			b.Tell("shared %s", l)
		}
		b.tellPublished(r.Published)
	}
	placed := r.placed
	if placed == nil {
		placed = pointers[engine.Placed](nil)
	}
	switch {
	case b.Results == nil:
		return nil
	case b.JSON:
		if err != nil {
			r.Error, r.Errors = err.Error(), output.Failures(err)
		}
		r.Results = []output.Result{}
		for p := range placed {
			r.Results = append(r.Results, b.shown(p))
		}
		return b.PrintTo(b.Results, r.Build)
	case display.IsTerminal(b.Results):
		n := 0
		for range placed {
			n++
		}
		if n > 100 {
			_, err := fmt.Fprintf(b.Results, "%d results in %s\n", n, b.Config.Build.Out)
			return err
		}
	}
	return b.list(placed)
}

// list prints results, a line each.
func (b *maker) list(placed iter.Seq[*engine.Placed]) error {
	w := bufio.NewWriterSize(b.Results, 64<<10)
	for p := range placed {
		shown := b.shown(p)
		fmt.Fprintf(w, "%s\t%s\t%s\n", cmp.Or(shown.Path, "-"), size.About(shown.Size), shown.Digest)
	}
	return w.Flush()
}

// tellPublished says what a build published.
func (b *maker) tellPublished(list []share.Published) {
	for _, p := range list {
		if p.Newer != "" {
			b.Tell("%[1]s@%[2]s was published before, and %[1]s@%[3]s is newer: `b9 push %[1]s@%[2]s` sends this one", p.Name, p.Version.Version, p.Newer)
			continue
		}
		where := "for this machine: `b9 push " + p.Name + "` sends it on"
		if p.Repository != config.LocalRepository {
			where = "in repository " + p.Repository
		}
		b.Tell("published %s@%s %s", p.Name, p.Version.Version, where)
	}
}

// aside is where the results go of a command whose standard output is for what
// it runs.
func aside(quiet bool, console io.Writer) io.Writer {
	if quiet {
		return nil
	}
	return console
}
