package lang

import "go.starlark.net/starlark"

func WritableBuiltin() Operation {
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
			return &WritableMarker{Src: c.Input("src")}, nil
		},
	}
}

// WritableMarker is the value of writable(): an operation that takes it makes
// a tree output of the directory.
type WritableMarker struct {
	Src Input // where it starts from; zero for empty
}

// String implements starlark.Value.
func (w *WritableMarker) String() string { return "writable()" }

// Type implements starlark.Value.
func (w *WritableMarker) Type() string { return "writable" }

// Freeze implements starlark.Value; a marker never changes.
func (w *WritableMarker) Freeze() {}

// Truth implements starlark.Value.
func (w *WritableMarker) Truth() starlark.Bool { return true }

// Hash implements starlark.Value. All markers are alike.
func (w *WritableMarker) Hash() (uint32, error) { return 1, nil }
