package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"b9.build/b9/cmd/b9/internal/difference"
	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/cmd/b9/internal/session"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/store"
)

// checkReproducible builds all again, whatever is cached, and compares each step with the
// build before. What differs because an input does says nothing of a step; what differs in
// spite of equal inputs is told, of the first such step the files, too. Steps with an
// effect outside of the store, such as share(), are left out, and outputs that are another
// one each time by their nature.
func (b *maker) checkReproducible(ctx context.Context, events func(engine.Event), ws *session.Workspace, wanted []engine.Ref, first *engine.Result, r *report) (err error) {
	f := b.Flags
	f.alone, f.rerunning = true, func(n *engine.Node) bool { return !lasting(n) && n.Builtin() != "source" }
	m, err := open(b.Session, f, ws, events)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	var refs []engine.Ref
	for _, n := range engine.Reachable(wanted...) {
		for _, out := range n.Outputs() {
			if !lasting(n) && !n.Located() {
				refs = append(refs, n.Ref(out.Name))
			}
		}
	}
	second, err := m.Build(ctx, refs...)
	if err != nil {
		return fmt.Errorf("built a second time: %w", err)
	}
	var found []error
	for _, n := range second.Nodes() {
		out := differing(n, first, second)
		if out < 0 || inputsDiffer(n, first, second) {
			continue
		}
		is := output.Irreproducible{Label: n.Label(), Builtin: n.Builtin(), Place: output.PlaceOf(n.Where()), Output: n.Outputs()[out].Name}
		if len(found) == 0 {
			is.Diff = compareOutputs(ctx, n.Outputs()[out], first.Outputs(n)[out], second.Outputs(n)[out])
		}
		found = append(found, irreproducible(n, is.Diff))
		r.Irreproducible = append(r.Irreproducible, is)
	}
	if len(found) == 0 {
		b.Console.Note(fmt.Sprintf("built twice: %s came out the same", output.Count(repeated(second), "step", "steps")))
	}
	return errors.Join(found...)
}

// repeated is how many steps of a second build have outputs that were compared.
func repeated(second *engine.Result) int {
	n := 0
	for _, node := range second.Nodes() {
		if !node.Located() && !lasting(node) {
			n++
		}
	}
	return n
}

// lasting reports whether the step has an effect outside of the store.
func lasting(n *engine.Node) bool {
	_, ok := n.Action().(engine.Lasting)
	return ok
}

// differing is the first output of which the two builds have different content, -1 for
// none.
func differing(n *engine.Node, first, second *engine.Result) int {
	x, y := first.Outputs(n), second.Outputs(n)
	for i, out := range n.Outputs() {
		if !out.ByKey && i < len(x) && i < len(y) && x[i].Digest() != y[i].Digest() {
			return i
		}
	}
	return -1
}

// inputsDiffer reports whether the step read something else the second time, be it of an
// output that counts by its key.
func inputsDiffer(n *engine.Node, first, second *engine.Result) bool {
	for _, in := range n.Inputs() {
		x, y := first.Outputs(in.Ref.Node), second.Outputs(in.Ref.Node)
		i := slices.IndexFunc(in.Ref.Node.Outputs(), func(o engine.Output) bool { return o.Name == in.Ref.Output })
		if i >= 0 && i < len(x) && i < len(y) && x[i].Digest() != y[i].Digest() {
			return true
		}
	}
	return false
}

// irreproducible is the error for a step that came out different.
func irreproducible(n *engine.Node, d *output.Diff) error {
	text := n.Label() + " is not reproducible: built again from the same inputs, it came out different"
	if d != nil {
		text += "\n" + strings.TrimSuffix(difference.Words(*d), "\n")
	}
	return &engine.StepError{Node: n, Err: errors.New(text)}
}

// compareOutputs tells in what two outputs differ; nil where that can't be found out, such
// as for content that is gone.
func compareOutputs(ctx context.Context, out engine.Output, x, y *engine.Artifact) *output.Diff {
	a, err := openOutput(ctx, "the first", out, x)
	if err != nil {
		return nil
	}
	defer a.close()
	b, err := openOutput(ctx, "the second", out, y)
	if err != nil {
		return nil
	}
	defer b.close()
	d, err := difference.Compare(ctx, a.Side, b.Side)
	if err != nil {
		return nil
	}
	return &d
}

// openedOutput is an output that is open to be compared.
type openedOutput struct {
	difference.Side
	exposed *engine.Exposed
}

func (o openedOutput) close() {
	if o.Image != nil {
		o.Image.Close()
	}
	o.exposed.Close()
}

func openOutput(ctx context.Context, name string, out engine.Output, a *engine.Artifact) (o openedOutput, err error) {
	o.Name = name
	if o.exposed, err = a.Expose(ctx); err != nil {
		return o, err
	}
	if out.Kind == store.Tree {
		o.Files, err = fsys.NewDirReader(ctx, o.exposed.Path)
	} else if o.Image, err = disk.Open(o.exposed.Path, out.Ext, disk.OpenOptions{}); err != nil {
		o.Image, err = disk.Open(o.exposed.Path, "raw", disk.OpenOptions{}) // no image, or one on another
	}
	if err != nil {
		err = errors.Join(err, o.exposed.Close())
	}
	return o, err
}
