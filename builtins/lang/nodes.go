package lang

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"b9.build/b9/engine"
)

// visit is how far the walk that makes nodes has come with a declaration.
type visit uint8

const (
	unseen visit = iota
	onPath
	finished
)

// Linked is a step whose inputs have their nodes, as Step.Finish sees it.
// Finish may change the exported fields.
type Linked struct {
	Action  engine.Action
	Inputs  []engine.Input // in the order of Step.Inputs, without those not given
	Outputs []engine.Output

	decl *declaration
}

// Pos is the place of the call that asked for the step.
func (l *Linked) Pos() engine.Position { return l.decl.pos() }

// Operation is the name of the operation that was called.
func (l *Linked) Operation() string { return l.decl.op }

// Warnf prints a line where print() writes. It fails nothing.
func (l *Linked) Warnf(format string, args ...any) { l.decl.m.warnf(format, args...) }

// Ref is the output that the input of that role refers to; ok is false when it
// was not given.
func (l *Linked) Ref(role string) (ref engine.Ref, ok bool) {
	for _, in := range l.Inputs {
		if in.Role == role {
			return in.Ref, true
		}
	}
	return engine.Ref{}, false
}

// SetRef makes the input of that role refer to another output, such as that of
// a step from Between.
func (l *Linked) SetRef(role string, ref engine.Ref) {
	for i := range l.Inputs {
		if l.Inputs[i].Role == role {
			l.Inputs[i].Ref = ref
		}
	}
}

// Output is the declared output that the input of that role refers to, for
// its Kind, Ext and Mode; ok is false when the input was not given.
func (l *Linked) Output(role string) (out engine.Output, ok bool) {
	ref, ok := l.Ref(role)
	if !ok {
		return engine.Output{}, false
	}
	out, err := ref.Node.Declared(ref.Output)
	return out, err == nil
}

// Between makes a further step and returns its node. what names it for
// people, such as "convert"; it must have outputs.
func (l *Linked) Between(what string, a engine.Action, inputs []engine.Input, outputs []engine.Output) (*engine.Node, error) {
	return engine.NewNode(a, engine.NodeOptions{
		Label:   fmt.Sprintf("%s (%s)", l.decl.link.target.Title, what),
		Builtin: what, Stack: l.decl.stack, Inputs: inputs, Outputs: outputs,
	})
}

// maker walks from the wanted targets to what they need, and makes nodes on
// the way back, so that every declaration has exactly one.
type maker struct {
	path []step
	errs []*Error
}

// step is a declaration on the path from a wanted target.
type step struct {
	d     *declaration
	owner *declaration // the named target nearest above, which titles unnamed steps
	next  int          // the input to follow next
}

func (k *maker) make(root *declaration) {
	k.enter(root, root)
	for len(k.path) > 0 {
		top := &k.path[len(k.path)-1]
		if in := top.d.input(top.next); in != nil {
			top.next++
			k.follow(top, in)
			continue
		}
		k.finish(top.d)
		k.path = k.path[:len(k.path)-1]
	}
}

// inputs yields every input, or every member of a group.
func (d *declaration) inputs() iter.Seq[*Input] {
	return func(yield func(*Input) bool) {
		for i := 0; ; i++ {
			if in := d.input(i); in == nil || !yield(in) {
				return
			}
		}
	}
}

// input is the i-th input or group member, or nil behind the last one.
func (d *declaration) input(i int) *Input {
	if n := len(d.step.Inputs); i < n {
		return &d.step.Inputs[i].From
	} else if i -= n; i < len(d.step.Group) {
		return &d.step.Group[i]
	}
	return nil
}

func (k *maker) enter(d, owner *declaration) {
	if d.link.visit == finished {
		return
	}
	d.link.visit = onPath
	d.link.target = Target{Title: title(d, owner), Builtin: d.op, Doc: d.doc, Position: d.pos(), decl: d}
	if d.name != "" {
		owner = d
		d.link.target.Label = d.label()
	}
	k.path = append(k.path, step{d: d, owner: owner})
}

// title names the node: the label of a target or source; an unnamed step is
// titled after the target that needs it first.
func title(d, owner *declaration) string {
	if d.name != "" || d.source != nil || d == owner {
		return d.describe()
	}
	if owner.link.counter == nil {
		owner.link.counter = map[string]int{}
	}
	owner.link.counter[d.op]++
	if n := owner.link.counter[d.op]; n > 1 {
		return fmt.Sprintf("%s (%s %d)", owner.label(), d.op, n)
	}
	return fmt.Sprintf("%s (%s)", owner.label(), d.op)
}

func (k *maker) follow(top *step, in *Input) {
	switch {
	case in.decl == nil:
	case in.decl.link.visit == onPath:
		top.d.link.failed = true
		k.errs = append(k.errs, k.cycle(in.decl))
	default:
		k.enter(in.decl, top.owner)
	}
}

// cycle describes the path from d back to itself, the same wherever the walk
// came upon it.
func (k *maker) cycle(d *declaration) *Error {
	start := slices.IndexFunc(k.path, func(s step) bool { return s.d == d })
	var ring []*declaration
	for _, s := range k.path[start:] {
		ring = append(ring, s.d)
	}
	ring = fromLeast(ring, func(a, b *declaration) int { return comparePositions(a.pos(), b.pos()) })
	var names, places strings.Builder
	for _, x := range ring {
		names.WriteString(x.describe() + " -> ")
		if x.name != "" {
			fmt.Fprintf(&places, "\n\t%s at %s", x.describe(), x.pos())
		}
	}
	return &Error{Pos: ring[0].pos(), Msg: "cycle of targets: " + names.String() + ring[0].describe() + places.String()}
}

// finish makes the node of a declaration whose inputs are finished.
func (k *maker) finish(d *declaration) {
	d.link.visit = finished
	d.link.failed = d.link.failed || d.poisoned || d.m != nil && d.m.failed || d.inputFailed() || d.unseenSource()
	if d.link.failed {
		return
	}
	if len(d.step.Group) > 0 {
		d.link.target.Refs, d.link.target.placed = d.groupRefs(), d.groupPlacements()
		return
	}
	node, err := k.node(d)
	if err != nil {
		d.link.failed = true
		k.errs = append(k.errs, d.errorf("%w", err))
		return
	}
	d.link.node = node
	for _, out := range node.Outputs() {
		d.link.target.Refs = append(d.link.target.Refs, node.Ref(out.Name))
	}
	d.link.target.placed = d.placements()
}

// unseenSource reports a source that was not identified, because what refers
// to it is wrong itself.
func (d *declaration) unseenSource() bool { return d.source != nil && len(d.step.Outputs) == 0 }

func (d *declaration) inputFailed() bool {
	for in := range d.inputs() {
		if in.decl != nil && in.decl.link.failed || in.decl == nil && in.label != nil {
			return true
		}
	}
	return false
}

// groupRefs lists the outputs of a group's members, each once.
func (d *declaration) groupRefs() []engine.Ref {
	var refs []engine.Ref
	for _, in := range d.step.Group {
		for _, ref := range in.decl.link.target.Refs {
			if (in.output == "" || ref.Output == in.output) && !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

func (k *maker) node(d *declaration) (*engine.Node, error) {
	l := Linked{Action: d.step.Action, Outputs: d.step.Outputs, decl: d}
	if n := len(d.step.Inputs); n > 0 {
		l.Inputs = make([]engine.Input, 0, n)
	}
	for _, in := range d.step.Inputs {
		if in.From.decl == nil {
			continue
		}
		more, err := in.linked()
		if err != nil {
			return nil, err
		}
		l.Inputs = append(l.Inputs, more...)
	}
	if d.step.Finish != nil {
		if err := d.step.Finish(&l); err != nil {
			return nil, err
		}
	}
	return engine.NewNode(l.Action, engine.NodeOptions{
		Label: d.link.target.Title, Builtin: d.op, Stack: d.stack, Inputs: l.Inputs, Outputs: l.Outputs,
	})
}

// linked is the input with its node: one input for each output where it is a step with
// several as a whole.
func (in *StepInput) linked() ([]engine.Input, error) {
	d := in.From.decl
	whole := in.From.want&Group != 0 && in.From.output == ""
	if whole && len(d.step.Group) > 0 {
		_, err := d.only()
		return nil, fmt.Errorf("%s: %w", in.From.param, err)
	}
	if whole && len(d.step.Outputs) > 1 {
		var all []engine.Input
		for _, out := range d.step.Outputs {
			all = append(all, engine.Input{Role: in.Role + "/" + out.Name, Ref: d.link.node.Ref(out.Name)})
		}
		return all, nil
	}
	return []engine.Input{{Role: in.Role, Ref: d.link.node.Ref(in.From.output)}}, nil
}

// reachable lists everything the roots need, what is needed first, and they
// themselves.
func reachable(roots []*Target) []*Target {
	var order []*Target
	var path []step
	seen := map[*declaration]bool{}
	enter := func(d *declaration) {
		if d != nil && !seen[d] {
			seen[d] = true
			path = append(path, step{d: d})
		}
	}
	for _, root := range roots {
		enter(root.decl)
		for len(path) > 0 {
			top := &path[len(path)-1]
			if in := top.d.input(top.next); in != nil {
				top.next++
				enter(in.decl)
				continue
			}
			order = append(order, &top.d.link.target)
			path = path[:len(path)-1]
		}
	}
	return order
}

// Deps lists what the targets need, directly and through others, and they
// themselves, what is needed first.
func (g *Graph) Deps(of ...*Target) []*Target { return reachable(of) }

// Rdeps lists what, among everything in the graph, needs one of the targets,
// directly or through others, and they themselves, what is needed first.
func (g *Graph) Rdeps(of ...*Target) []*Target {
	needs := map[*declaration]bool{}
	for _, t := range of {
		needs[t.decl] = true
	}
	var list []*Target
	for _, t := range reachable(g.Targets) {
		for in := range t.decl.inputs() {
			needs[t.decl] = needs[t.decl] || needs[in.decl]
		}
		if needs[t.decl] {
			list = append(list, t)
		}
	}
	return list
}

// Kind lists everything in the graph that the operation of that name made,
// or all source files for "source".
func (g *Graph) Kind(builtin string) []*Target {
	return slices.DeleteFunc(reachable(g.Targets), func(t *Target) bool {
		return t.Builtin != builtin || t.decl.said().picked != ""
	})
}
