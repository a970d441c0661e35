package image

import (
	"context"
	"errors"
	"fmt"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	diskimage "b9.build/b9/engine/disk/image"
	"b9.build/b9/engine/store"
)

// Overlay is the operation overlay().
func Overlay() lang.Operation {
	return lang.Operation{
		Name: "overlay",
		Doc: `a copy-on-write qcow2 on top of an image

The overlay is empty and refers to the image below it, by a relative name: the two
outputs, step["overlay"] and step["backing"], are placed side by side. With
backing= it refers to that path instead, and is the only output. With
differences_from= the image below is that one, and the overlay holds what in the
image is different: an update to ship. A step that is given an overlay works on the
image that has its content.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image below, raw or qcow2; with differences_from the one that the overlay shall read as, in any format"},
			lang.NameParam(),
			{Name: "differences_from", Type: lang.File, Doc: "the image below, raw or qcow2, of an overlay that holds the differences"},
			{Name: "backing", Type: lang.String, Doc: "absolute or relative path of the image below, as the overlay records it"},
		},
		Example: `overlay(":root_qcow2", name = "test_run")`,
		Make:    overlayStep,
	}
}

func overlayStep(c *lang.Call) (lang.Step, error) {
	a := &overlay{Backing: c.String("backing")}
	if len(a.Backing) > 1023 {
		c.Errorf("backing: a qcow2 holds paths of up to 1023 bytes, got %d", len(a.Backing))
	}
	s := lang.Step{Action: a, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}}}
	if c.Given("differences_from") {
		s.Inputs = []lang.StepInput{{Role: "image", From: c.Input("differences_from")}, {Role: "changed", From: c.Input("image")}}
	}
	// The overlay names what is beside it: both have a directory to themselves.
	s.Outputs = []engine.Output{{Name: "overlay", Kind: store.File, Ext: "qcow2", Beneath: a.Backing == ""}}
	if a.Backing == "" {
		s.Outputs = append(s.Outputs, engine.Output{Name: "backing", Kind: store.File, Beneath: true})
	}
	s.Finish = func(l *lang.Linked) error { return finishOverlay(l, *a) }
	return s, nil
}

func finishOverlay(l *lang.Linked, a overlay) (err error) {
	if a.Format, err = InputFormat(l, "image", ""); err != nil {
		return err
	}
	if _, ok := l.Ref("changed"); ok {
		if a.Changed, err = InputFormat(l, "changed", ""); err != nil {
			return err
		}
	}
	if a.Format != "raw" && a.Format != "qcow2" {
		return fmt.Errorf("a qcow2 stands on a raw or qcow2 image, not on %s: convert() it", a.Format)
	}
	if a.Backing == "" {
		l.Outputs = []engine.Output{l.Outputs[0], {Name: "backing", Kind: store.File, Ext: a.Format, Beneath: true}}
	}
	l.Action = &a
	return nil
}

// overlay makes a qcow2 over the image of the role "image", which is empty or holds
// in what the one of the role "changed" is different. The second output is that image, under the name the first one refers to.
type overlay struct {
	Format  string `param:"image"`            // of the backing image
	Changed string `param:"differences_from"` // format of the image that it reads as; "" without one
	Backing string // path recorded in the overlay; "" means beside it
}

// Beneath tells of an output that is an overlay which image of the graph has the same
// content and in which format, whatever path the overlay records: the one that it
// stands on, or the one that it was made of.
func Beneath(ref engine.Ref) (below engine.Ref, format string, ok bool) {
	o, ok := ref.Node.Action().(*overlay)
	if !ok || ref.Output != "overlay" {
		return engine.Ref{}, "", false
	}
	if o.Changed != "" {
		return ref.Node.Inputs()[1].Ref, o.Changed, true
	}
	return ref.Node.Inputs()[0].Ref, o.Format, true
}

// Kind implements engine.Action.
func (o *overlay) Kind() string { return "overlay/2" }

// Run implements engine.Action.
func (o *overlay) Run(ctx context.Context, job *engine.Job) (err error) {
	src, err := OpenInput(ctx, job, "image", o.Format, Undeclared())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	path := o.Backing
	if path == "" {
		path = "backing." + o.Format // as it is placed beside the overlay
		if err := job.Input("image").Fork(ctx, job.Output("backing")); err != nil {
			return err
		}
	}
	if src.Size() == 0 {
		return fmt.Errorf("the backing image is empty")
	}
	if o.Changed != "" {
		return o.difference(ctx, job, path)
	}
	return disk.Overlay(ctx, job.Output("overlay"), src.Size(), disk.Backing{Path: path, Format: o.Format}, false)
}

// difference writes an overlay that holds what is different, and records path. Of raw images
// only that is read which the store does not know to be equal.
func (o *overlay) difference(ctx context.Context, job *engine.Job, path string) (err error) {
	var parts [][2]int64
	known := false
	if o.Format == "raw" && o.Changed == "raw" {
		if parts, known, err = job.Differences("image", "changed"); err != nil {
			return err
		}
	}
	open := func(role, format string) (disk.Image, error) {
		img, err := OpenInput(ctx, job, role, format, Undeclared())
		if err == nil && known {
			img = diskimage.Within(img, parts)
		}
		return img, err
	}
	img, err := open("changed", o.Changed)
	if err != nil {
		return err
	}
	below := func(string, disk.Backing) (disk.Image, error) { return open("image", o.Format) }
	w := disk.WriteOptions{Backing: &disk.Backing{Path: path, Format: o.Format}, OpenBacking: below, Progress: job.Progress}
	return errors.Join(disk.Convert(ctx, img, job.Output("overlay"), "qcow2", w), img.Close())
}
