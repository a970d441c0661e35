package lang

import (
	"errors"
	"fmt"
	"strings"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"b9.build/b9/engine"
)

// Handle stands for a recorded step, or for one of its outputs, in a build
// file. It is immutable, can be a key of a dict, equals only itself, has no
// attributes, and never becomes text: str(), repr(), "%s", format() and "+"
// refuse it, because text with a step's description in it would look like it
// worked. handle["/data"] selects an output of a step that has several, and
// handle["/data"]["core.img"] a file of one that is a directory.
type Handle struct {
	decl   *declaration
	output string
	file   string // of an output that is a directory; "" is the output itself
}

var (
	_ starlark.Mapping   = (*Handle)(nil)
	_ starlark.HasBinary = (*Handle)(nil)
)

// String describes the step for error messages and print().
func (h *Handle) String() string {
	if h.file != "" {
		return fmt.Sprintf("<handle of %s[%q][%q]>", h.decl.describe(), h.output, h.file)
	}
	if h.output != "" {
		return fmt.Sprintf("<handle of %s[%q]>", h.decl.describe(), h.output)
	}
	return fmt.Sprintf("<handle of %s>", h.decl.describe())
}

// Type implements starlark.Value.
func (h *Handle) Type() string { return "handle" }

// Freeze implements starlark.Value; a handle never changes.
func (h *Handle) Freeze() {}

// Truth implements starlark.Value.
func (h *Handle) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (h *Handle) Hash() (uint32, error) {
	n, err := starlark.String(h.output + "\x00" + h.file).Hash()
	return n ^ h.decl.seq*2654435761, err
}

// Get implements starlark.Mapping: it selects the output of that name.
func (h *Handle) Get(key starlark.Value) (starlark.Value, bool, error) {
	name, ok := starlark.AsString(key)
	if !ok {
		return nil, false, fmt.Errorf("an output is selected by its name, a string, not by %s", key.Type())
	}
	if h.decl.poisoned {
		return h, true, nil
	}
	_, known := h.decl.output(name)
	if h.output == "" && h.file == "" && known {
		return &Handle{decl: h.decl, output: name}, true, nil
	}
	if output, ok := h.tree(); ok {
		file, err := h.member(output, name)
		return file, err == nil, err
	}
	if h.output != "" {
		return nil, false, fmt.Errorf("%s is one output already, and no directory", h)
	}
	return nil, false, errors.New(h.decl.noOutput(name))
}

// CompareSameType implements starlark.Comparable: equal when they stand for the same output.
func (h *Handle) CompareSameType(op syntax.Token, other starlark.Value, _ int) (bool, error) {
	same := *h == *other.(*Handle)
	switch op {
	case syntax.EQL:
		return same, nil
	case syntax.NEQ:
		return !same, nil
	}
	return false, fmt.Errorf("handles have no order")
}

// Binary implements starlark.HasBinary to refuse joining a handle with text.
func (h *Handle) Binary(op syntax.Token, y starlark.Value, _ starlark.Side) (starlark.Value, error) {
	if _, text := y.(starlark.String); text && op != syntax.IN && op != syntax.NOT_IN {
		return nil, notText(h)
	}
	return nil, nil
}

func notText(h *Handle) error {
	return fmt.Errorf("%s is not text: give the handle itself to the call that needs it", h)
}

// declaration is one recorded call of an operation, or a source file that
// calls refer to. What linking finds out is guarded by Workspace.resolving.
type declaration struct {
	handle    Handle
	m         *module // the build file whose evaluation recorded it
	op        string
	name, doc string
	stack     []engine.Position
	step      Step
	seq       uint32      // in the order of the module's calls
	poisoned  bool        // its arguments were wrong, which has been reported
	source    *sourceFile // for a source file
	seldom    *seldom     // nil for nothing of it
	link      linkState
}

// seldom is what few calls say of a declaration. A workspace may have 100,000 of them.
type seldom struct {
	visibility []visibilityRule // nil is the default
	picked     string           // the output selected, of a declaration that stands for a part of another
	chosen     *chosen          // what is placed, and where; nil is everything, by the label
	tags       []string         // for patterns
	args       *arguments       // with Config.Arguments
}

// said is what the call says of that.
func (d *declaration) said() seldom {
	if d.seldom == nil {
		return seldom{}
	}
	return *d.seldom
}

// says is said, to be added to.
func (d *declaration) says() *seldom {
	if d.seldom == nil {
		d.seldom = &seldom{}
	}
	return d.seldom
}

// describe names the step for people before it has a node.
func (d *declaration) describe() string {
	switch {
	case d.source != nil:
		return d.source.label
	case d.name != "":
		return d.label().String()
	}
	return fmt.Sprintf("%s() at %s", d.op, d.pos())
}

func (d *declaration) label() Label {
	l := d.m.base
	l.Name, l.Output = d.name, d.said().picked
	return l
}

func (d *declaration) pos() engine.Position {
	if len(d.stack) == 0 {
		return engine.Position{}
	}
	return d.stack[0]
}

func (d *declaration) output(name string) (engine.Output, bool) {
	for _, out := range d.step.Outputs {
		if out.Name == name {
			return out, true
		}
	}
	return engine.Output{}, false
}

// only is the output that the bare step stands for.
func (d *declaration) only() (engine.Output, error) {
	switch {
	case len(d.step.Group) > 0:
		return engine.Output{}, fmt.Errorf("%s is a group of targets: name one of them", d.describe())
	case len(d.step.Outputs) == 1:
		return d.step.Outputs[0], nil
	}
	names := d.outputNames()
	return engine.Output{}, fmt.Errorf("%s has %d outputs (%s): select one, such as %s", d.describe(), len(names),
		strings.Join(names, ", "), d.selection(d.step.Outputs[0].Name))
}

func (d *declaration) selection(output string) string {
	if d.name != "" {
		return fmt.Sprintf("%s[%s]", d.label(), output)
	}
	return fmt.Sprintf("step[%q]", output)
}

func (d *declaration) noOutput(name string) string {
	names := d.outputNames()
	if len(names) == 1 && names[0] == "" || len(names) == 0 {
		return fmt.Sprintf("%s has no output %q: it has a single one, which needs no selection", d.describe(), name)
	}
	return Unknown(d.describe()+" has no output", name, names)
}

func (d *declaration) outputNames() []string {
	names := make([]string, len(d.step.Outputs))
	for i, out := range d.step.Outputs {
		names[i] = out.Name
	}
	return names
}
