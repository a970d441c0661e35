package builtins

import (
	"context"

	"b9/engine"
	"b9/engine/fsys"
	"b9/engine/fsys/ext4"
	"b9/engine/size"
)

func resizeOperation() Operation {
	return Operation{
		Name: "resize",
		Doc: `an image, and the ext4 file system in it, with a new size

A file system that can't become that small is an error that says how small it can.`,
		Positional: 2,
		Params: []Param{
			{Name: "image", Type: aFile, Required: true, Doc: "the image to resize"},
			{Name: "size", Type: aSize, Required: true, Min: 1, Doc: "the new size"},
			nameParam,
			{Name: "image_only", Type: aBool, Doc: "leave the file system alone: only the image gets the size"},
		},
		Example: `resize(":root", "8G", name = "large")`,
		make: func(c *Call) (Step, error) {
			return rawStep(c, &resizeImage{Size: c.Size("size"), ImageOnly: c.Bool("image_only")}), nil
		},
	}
}

// rawStep is a step that turns one image into another, both raw.
func rawStep(c *Call, a engine.Action) Step {
	return Step{
		Action: a, Inputs: []StepInput{{"image", c.Input("image")}}, Outputs: oneFile("raw"),
		Finish: func(l *Linked) error { return rawImages(l, "image") },
	}
}

func shrinkOperation() Operation {
	return Operation{
		Name:       "shrink",
		Doc:        "an image as small as the ext4 file system in it can be, plus an amount",
		Positional: 1,
		Params: []Param{
			{Name: "image", Type: aFile, Required: true, Doc: "the image to shrink"},
			nameParam,
			{Name: "extra", Type: aSize, Doc: "space to leave beyond the minimum (default none)"},
		},
		Example: `shrink(":root", name = "small", extra = "64M")`,
		make: func(c *Call) (Step, error) {
			return rawStep(c, &shrinkImage{Extra: c.Size("extra")}), nil
		},
	}
}

// resizeImage gives the raw image of the role "image" a new size.
type resizeImage struct {
	Size      int64 // bytes
	ImageOnly bool  // leave the file system alone
}

// Kind implements engine.Action.
func (r *resizeImage) Kind() string { return "resize/1" }

// Tools implements engine.Tooled.
func (r *resizeImage) Tools() []engine.Tool {
	if r.ImageOnly {
		return nil
	}
	return ext4.Tools()
}

// Run implements engine.Action.
func (r *resizeImage) Run(ctx context.Context, job *engine.Job) error {
	out := job.Output("")
	if err := job.Input("image").Fork(ctx, out); err != nil {
		return err
	}
	if r.ImageOnly {
		return fsys.ResizeImageOnly(out, r.Size)
	}
	return fsys.Resize(ctx, out, r.Size)
}

// shrinkImage makes the raw image of the role "image" as small as its file
// system can be, plus Extra bytes.
type shrinkImage struct {
	Extra int64
}

// Kind implements engine.Action.
func (s *shrinkImage) Kind() string { return "shrink/1" }

// Tools implements engine.Tooled.
func (s *shrinkImage) Tools() []engine.Tool { return ext4.Tools() }

// Run implements engine.Action.
func (s *shrinkImage) Run(ctx context.Context, job *engine.Job) error {
	out := job.Output("")
	if err := job.Input("image").Fork(ctx, out); err != nil {
		return err
	}
	n, err := fsys.Shrink(ctx, out, s.Extra)
	if err == nil {
		job.Logf("shrunk to %s", size.About(n))
	}
	return err
}
