package build

import (
	"cmp"
	"context"
	"fmt"
	"io"

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
	all := r.trace.Results()
	if e.rest {
		r.Cached = max(0, r.trace.Steps()-r.Executed)
		if err := b.print(r.trace); err != nil {
			return err
		}
	}
	r.Results = b.shown(all)
	if e.rest && b.before.named {
		all = placed // the others have their names
	}
	names := map[string][]store.Object{}
	for _, p := range all {
		names[p.Label] = append(names[p.Label], p.Object)
	}
	return r.store.NameResults(r.root, names)
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
	names := map[string][]store.Object{}
	for _, p := range placed {
		names[p.Label] = append(names[p.Label], p.Object)
	}
	r.Results = b.shown(placed)
	return r.store.NameResults(r.root, names)
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

// shown is the results as they are printed.
func (b *maker) shown(list []engine.Placed) []output.Result {
	all := make([]output.Result, len(list))
	for i, r := range list {
		all[i] = output.Result{Label: r.Label, Output: r.Output, Size: r.Size, Digest: r.Object.Digest.String()}
		if r.Path != "" {
			all[i].Path = b.Relative(r.Path)
		}
	}
	return all
}

// tell prints what was made, or found made, or why it was not.
func (b *maker) tell(r *report, err error) error {
	if !b.JSON {
		for _, l := range r.Shared {
			b.Tell("shared %s", l)
		}
		b.tellPublished(r.Published)
	}
	switch {
	case b.Results == nil:
		return nil
	case b.JSON:
		if err != nil {
			r.Error, r.Errors = err.Error(), output.Failures(err)
		}
		r.Results = output.List(r.Results)
		return b.PrintTo(b.Results, r.Build)
	case len(r.Results) > 100 && display.IsTerminal(b.Results):
		_, err := fmt.Fprintf(b.Results, "%d results in %s\n", len(r.Results), b.Config.Build.Out)
		return err
	}
	var text []byte
	for _, p := range r.Results {
		text = append(append(text, cmp.Or(p.Path, "-")...), '\t')
		text = append(append(text, size.About(p.Size)...), '\t')
		text = append(append(text, p.Digest...), '\n')
	}
	_, werr := b.Results.Write(text)
	return werr
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
