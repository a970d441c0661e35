package lang

import "go.starlark.net/starlark"

// Writable is the operation writable().
func Writable() Operation {
	return Operation{
		Name: "writable",
		Doc: "marks a shared directory that a script may write to\n\nThe directory starts as a copy of src, or empty. " +
			"What the script left in it is an output of the step, selected by the directory's place in the container.",
		Positional: 1,
		Params: []Param{
			{Name: "src", Type: Tree, Doc: "the directory to start from; empty without it"},
		},
		Example: `build = lxc_exec(images = {"/": root}, shares = {"/out": writable()}, script = "make.sh")
group("binaries", targets = [build["/out"]])`,
		Value: func(c *Call) (starlark.Value, error) {
			return &WritableValue{Src: c.Input("src")}, nil
		},
	}
}

// WritableValue is what writable() returns: an operation that takes a
// [WritableTree] makes an output of the directory.
type WritableValue struct {
	Src Input // where it starts from; zero for empty
}

// String implements starlark.Value.
func (w *WritableValue) String() string { return "writable()" }

// Type implements starlark.Value.
func (w *WritableValue) Type() string { return "writable" }

// Freeze implements starlark.Value; a marker never changes.
func (w *WritableValue) Freeze() {}

// Truth implements starlark.Value.
func (w *WritableValue) Truth() starlark.Bool { return true }

// Hash implements starlark.Value. All markers are alike.
func (w *WritableValue) Hash() (uint32, error) { return 1, nil }
