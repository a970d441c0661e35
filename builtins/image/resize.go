package image

import (
	"context"
	"errors"
	"fmt"
	"os"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/size"
)

// Resize is the operation resize().
func Resize() lang.Operation {
	return lang.Operation{
		Name: "resize",
		Doc: `an image, and the file system or the partition table in it, with a new size

An ext4 that can't become that small is an error that says how small it can; xfs and
btrfs become larger only, without a mount.
Of a disk, the backup of a GPT moves to the new end, and nothing else of the table
changes; with grow the last partition takes the new room, and so does the ext4, xfs or
btrfs in it.`,
		Positional: 2,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image to resize"},
			{Name: "size", Type: lang.Size, Required: true, Min: 1, Doc: "the new size"},
			lang.NameParam(),
			{Name: "image_only", Type: lang.Bool, Doc: "leave the file system or table alone: only the image gets the size"},
			{Name: "grow", Type: lang.Bool, Doc: "let the last partition of a disk, and the ext4, xfs or btrfs in it, take the new room"},
		},
		Example: `resize(":root", "8G", name = "large")`,
		Make: func(c *lang.Call) (lang.Step, error) {
			if c.Bool("image_only") && c.Bool("grow") {
				c.Errorf("image_only leaves everything in the image alone, and grow does not: give one of them")
			}
			return rawStep(c, &resize{Size: c.Size("size"), ImageOnly: c.Bool("image_only"), Grow: c.Bool("grow")}), nil
		},
	}
}

// rawStep is a step that turns one image into another, both raw.
func rawStep(c *lang.Call, a engine.Action) lang.Step {
	return lang.Step{
		Action: a, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}}, Outputs: lang.OneFile("raw"),
		Finish: func(l *lang.Linked) error { return rawImages(l, "image") },
	}
}

// Shrink is the operation shrink().
func Shrink() lang.Operation {
	return lang.Operation{
		Name:       "shrink",
		Doc:        "an image as small as the ext4 file system in it can be, plus an amount",
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image to shrink"},
			lang.NameParam(),
			{Name: "extra", Type: lang.Size, Doc: "space to leave beyond the minimum (default none)"},
		},
		Example: `shrink(":root", name = "small", extra = "64M")`,
		Make: func(c *lang.Call) (lang.Step, error) {
			return rawStep(c, &shrink{Extra: c.Size("extra")}), nil
		},
	}
}

// resize gives the raw image of the role "image" a new size.
type resize struct {
	Size      int64 // bytes
	ImageOnly bool  // leave what is in it alone
	Grow      bool  // the last partition and its file system, too
}

// Kind implements engine.Action. resize/1 knew no disks, and left some file systems
// damaged.
func (r *resize) Kind() string { return "resize/2" }

// Tools implements engine.Tooled.
func (r *resize) Tools() []engine.Tool {
	if r.ImageOnly {
		return nil
	}
	return ext4.Tools()
}

// Run implements engine.Action.
func (r *resize) Run(ctx context.Context, job *engine.Job) error {
	out := job.Output("")
	again := forkAgain(ctx, job, out)
	if err := job.Input("image").Fork(ctx, out); err != nil {
		return err
	}
	err := Sizing{Size: r.Size, ImageOnly: r.ImageOnly, Grow: r.Grow, Scratch: job.Dir(), Again: again}.Apply(ctx, out, job.Logf)
	if errors.Is(err, ErrKind) {
		err = fmt.Errorf("%w: image_only = True gives the image alone the size", err)
	}
	return err
}

// forkAgain puts a fresh copy of the image in place of the one at out.
func forkAgain(ctx context.Context, job *engine.Job, out string) func() error {
	return func() error { return errors.Join(os.Remove(out), job.Input("image").Fork(ctx, out)) }
}

// shrink makes the raw image of the role "image" as small as its file
// system can be, plus Extra bytes.
type shrink struct {
	Extra int64
}

// Kind implements engine.Action. Under shrink/1 file systems with blocks of 1 KiB
// came out damaged, under shrink/2 those with bigalloc many times too large.
func (s *shrink) Kind() string { return "shrink/3" }

// Tools implements engine.Tooled.
func (s *shrink) Tools() []engine.Tool { return ext4.Tools() }

// Run implements engine.Action.
func (s *shrink) Run(ctx context.Context, job *engine.Job) error {
	out := job.Output("")
	if err := job.Input("image").Fork(ctx, out); err != nil {
		return err
	}
	n, err := fsys.Shrink(ctx, out, s.Extra, forkAgain(ctx, job, out))
	if err == nil {
		job.Logf("shrunk to %s", size.About(n))
	}
	return err
}
