package engine

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/engine/internal/position"
	"b9.build/b9/engine/store"
	"b9.build/b9/engine/tool"
)

// Action is one step of a build: a struct of plain exported values, or a
// pointer to one. Every field is part of the step's key unless it is tagged
// `key:"-"`, which is for values that cannot change the result, such as the
// place a file is read from when its content is fingerprinted.
type Action interface {
	// Kind names the operation and the version of its behaviour, such as
	// "resize/1". Raise the number when the output for the same input changes.
	Kind() string

	// Run makes the outputs: it reads its inputs through the job and writes
	// each declared output at the path job.Output gives. It must not read
	// anything else that can change between two runs.
	Run(ctx context.Context, job *Job) error
}

// Source is an action that reads the world outside the graph. Its
// fingerprint stands for what it read, and is part of its key.
type Source interface {
	Action

	// Fingerprint returns a digest that differs whenever the outputs would.
	// It is called once a build, when the step is looked up. A step that runs
	// is recorded under that digest, so Run must make what it stands for, or
	// fail: see Job.Fingerprint, and Moving.
	Fingerprint(ctx context.Context, w *World) (store.Digest, error)
}

// Told is a Source that says for people what it reads, such as "file web/setup.sh".
type Told interface {
	Source
	Reads() string
}

// Moving is a Source of something that moves on by itself, such as a package
// archive: what Run reads may be newer than what was fingerprinted when the
// step was looked up, minutes before. It is asked once more right before it
// runs, or is fetched from the cache, and the step gets the key that belongs to
// the second answer.
type Moving interface {
	Source

	// Refingerprint returns the fingerprint as of now; before is the answer
	// that Fingerprint gave. It is called once for every time that the step is
	// not found in the store.
	Refingerprint(ctx context.Context, w *World, before store.Digest) (store.Digest, error)
}

// Followed is a Source that reads less of the world than steps after it may,
// such as the packages of an archive that it installs. Follows returns what
// stands for all of it, nil if that is pinned: a further step with one file as its
// output, which other steps have as an input when they have to run again whenever
// that world has moved on.
type Followed interface {
	Source
	Follows() Moving
}

// Located is a Source whose only output already lies on the host. It is
// never run and never copied into the store: steps read it in place, and a
// step that used it fails when the fingerprint has changed meanwhile.
type Located interface {
	Source

	// Locate returns the absolute host path and whether it is a file or a
	// tree. An empty path says that this one has to be run after all.
	Locate() (path string, kind store.Kind)
}

// Lasting is an action with an effect outside the store, such as publishing.
// It is found in the store only while its effect is there, and never comes from
// the cache of other machines.
type Lasting interface {
	Action

	// Lasts reports whether the effect of the run that made the outputs is
	// still there, and does nothing else. What can't be found out lasts no
	// longer.
	Lasts(ctx context.Context, w *World, outputs []*Artifact) bool

	// Stamps notes what tells whether the effect is there: as long as all of
	// it is the same, it lasts. A trace holds it.
	Stamps(w *World) []Stamp
}

// Private is an action whose key has something that no other machine can have. Its
// step never comes from the cache of other machines, and never goes there.
type Private interface {
	Action
	IsPrivate() bool
}

// Tooled is an action that calls programs of the host. Their versions are
// part of the key.
type Tooled interface {
	Action
	Tools() []Tool
}

// Tool is a program of the host, and how it is asked for its version.
type Tool = tool.Program

// Position is a place in a build file.
type Position = position.Position

// PositionError is a mistake at a position of a build file, a document or a
// settings file.
type PositionError = position.Error

// Output declares one result of a step.
type Output struct {
	Name string     // unique in the step: "" for the only one, or a mount point such as "/data"
	Kind store.Kind // file or tree
	Ext  string     // file name extension when placed for the user, without the dot; may be empty
	Mode uint32     // permission bits of a file when placed for the user; 0 means 0644

	// Beneath has it placed in a directory of the target's name, under its own name,
	// and not as the target itself.
	Beneath bool

	// ByKey says that the content is another one each time it is made though it
	// is as good, such as the memory of a machine that was booted. The steps that
	// read it are then keyed by the key of this step instead of the content.
	ByKey bool
}

// Input is one thing a step reads, under the role that its action knows it by.
type Input struct {
	Role string
	Ref  Ref
}

// Ref names one output of a node.
type Ref struct {
	Node   *Node
	Output string
}

// String renders the reference for people.
func (r Ref) String() string {
	if r.Output == "" {
		return r.Node.Label()
	}
	return r.Node.Label() + "[" + r.Output + "]"
}

// byKey reports whether the output counts by the key of its step.
func (r Ref) byKey() bool {
	i := r.Node.indexOf(r.Output)
	return i >= 0 && r.Node.opts.Outputs[i].ByKey
}

// NodeOptions describe a node beside its action.
type NodeOptions struct {
	Label   string     // "//pkg:name", or a description of an unnamed step such as "//pkg:web (resize)"
	Builtin string     // the built-in that recorded it, such as "resize"
	Stack   []Position // the call in the build file first, then its callers
	Inputs  []Input    // in the order the action declares; roles are unique
	Outputs []Output   // at least one
}

// Node is one immutable step of the graph. Its inputs exist before it, so a
// graph of nodes has no cycle.
type Node struct {
	action Action
	opts   NodeOptions
}

// NewNode records a step. Errors are mistakes of the caller: no outputs, a
// role or an output named twice, an input that names no output of its node.
func NewNode(a Action, o NodeOptions) (*Node, error) {
	if len(o.Outputs) == 0 {
		return nil, fmt.Errorf("%s: a step needs an output", o.Label)
	}
	for i, out := range o.Outputs {
		if slices.ContainsFunc(o.Outputs[:i], func(other Output) bool { return other.Name == out.Name }) {
			return nil, fmt.Errorf("%s: output %q declared twice", o.Label, out.Name)
		}
	}
	for i, in := range o.Inputs {
		if slices.ContainsFunc(o.Inputs[:i], func(other Input) bool { return other.Role == in.Role }) {
			return nil, fmt.Errorf("%s: input %q given twice", o.Label, in.Role)
		}
		if in.Ref.Node == nil {
			return nil, fmt.Errorf("%s: input %q refers to nothing", o.Label, in.Role)
		}
		out, err := in.Ref.Node.Declared(in.Ref.Output)
		if err != nil {
			return nil, fmt.Errorf("%s: input %q: %w", o.Label, in.Role, err)
		}
		if _, located := locatedAt(in.Ref.Node); located && out.ByKey {
			return nil, fmt.Errorf("%s: input %q counts by the key of its step, and a source that is read in place has none", o.Label, in.Role)
		}
	}
	return &Node{action: a, opts: o}, nil
}

// Action returns the node's action. Treat it as read-only.
func (n *Node) Action() Action { return n.action }

// Label names the node for people.
func (n *Node) Label() string { return n.opts.Label }

// Builtin is the name of the built-in that recorded the node.
func (n *Node) Builtin() string { return n.opts.Builtin }

// Where is the place of the call that recorded the node.
func (n *Node) Where() Position {
	if len(n.opts.Stack) == 0 {
		return Position{}
	}
	return n.opts.Stack[0]
}

// Stack is the call stack at that place, innermost call first.
func (n *Node) Stack() []Position { return n.opts.Stack }

// Inputs lists what the node reads. Treat it as read-only.
func (n *Node) Inputs() []Input { return n.opts.Inputs }

// Needs lists the steps that the node needs directly, each once. Sources, which are read
// where they lie, are none.
func (n *Node) Needs() []*Node {
	var list []*Node
	seen := map[*Node]bool{}
	for _, in := range n.opts.Inputs {
		if of := in.Ref.Node; !seen[of] {
			seen[of] = true
			if !of.Located() {
				list = append(list, of)
			}
		}
	}
	return list
}

// Located reports whether the node is a source that is read where it lies. There are no
// events about it.
func (n *Node) Located() bool {
	_, ok := locatedAt(n)
	return ok
}

// Outputs lists what the node makes. Treat it as read-only.
func (n *Node) Outputs() []Output { return n.opts.Outputs }

// Ref refers to the output of that name; it is not checked here.
func (n *Node) Ref(output string) Ref { return Ref{Node: n, Output: output} }

// Declared finds a declared output by name.
func (n *Node) Declared(name string) (Output, error) {
	if i := n.indexOf(name); i >= 0 {
		return n.opts.Outputs[i], nil
	}
	var names []string
	for _, out := range n.opts.Outputs {
		names = append(names, strconv.Quote(out.Name))
	}
	return Output{}, fmt.Errorf("%s has no output %q (have %s)", n.Label(), name, strings.Join(names, ", "))
}

// indexOf is where the declared output of that name stands, -1 for none.
func (n *Node) indexOf(name string) int {
	return slices.IndexFunc(n.opts.Outputs, func(out Output) bool { return out.Name == name })
}
