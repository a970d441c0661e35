package image

import (
	"cmp"
	"context"
	"errors"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/store"
)

// Convert is the operation convert().
func Convert() lang.Operation {
	return lang.Operation{
		Name: "convert",
		Doc: `an image in another format

What reads as zero is not written, and only data is copied.`,
		Positional: 2,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image to convert"},
			{Name: "format", Type: lang.String, Required: true, Doc: "the new format: raw, qcow2, vmdk, vdi, vhd or vhdx"},
			lang.NameParam(),
			{Name: "compress", Type: lang.String, Enum: []string{"zlib", "zstd"}, Doc: "compress the clusters of a qcow2"},
			{Name: "subformat", Type: lang.String, Enum: []string{"monolithicSparse", "streamOptimized", "monolithicFlat", "dynamic", "fixed"}, Doc: "kind of vmdk: monolithicSparse (the default), streamOptimized, or monolithicFlat, which has the outputs disk, the descriptor, and flat, the data; kind of vhd: dynamic (the default) or fixed"},
			{Name: "adapter", Type: lang.String, Enum: []string{"lsilogic", "buslogic", "ide", "legacyESX"}, Doc: "controller that a vmdk names (default lsilogic)"},
		},
		Example: `convert(":root", name = "root_qcow2", format = "qcow2", compress = "zstd")`,
		Make:    convertStep,
	}
}

func convertStep(c *lang.Call) (lang.Step, error) {
	a := &convert{Format: c.String("format"), Compress: c.String("compress"), Subformat: c.String("subformat"), Adapter: c.String("adapter")}
	if _, err := disk.Lookup(a.Format); err != nil {
		c.Errorf("%w", err)
	}
	if a.Compress != "" && a.Format != "qcow2" {
		c.Errorf("compress is for qcow2, and the format is %s", a.Format)
	}
	vhd := a.Subformat == "dynamic" || a.Subformat == "fixed"
	switch {
	case a.Subformat != "" && a.Format != "vmdk" && a.Format != "vhd":
		c.Errorf("subformat is for vmdk and vhd, and the format is %s", a.Format)
	case a.Subformat != "" && vhd != (a.Format == "vhd"):
		c.Errorf("subformat %q is not for %s", a.Subformat, a.Format)
	case a.Adapter != "" && a.Format != "vmdk":
		c.Errorf("adapter is for vmdk, and the format is %s", a.Format)
	}
	outputs := lang.OneFile(a.Format)
	if a.Format == "vmdk" {
		a.Name = cmp.Or(c.String("name"), "disk") + ".vmdk"
	}
	if a.flat() {
		a.Name = "flat.vmdk" // as it is placed beside the descriptor
		outputs = []engine.Output{{Name: "disk", Kind: store.File, Ext: "vmdk", Beneath: true}, {Name: "flat", Kind: store.File, Ext: "vmdk", Beneath: true}}
	}
	return lang.Step{
		Action: a, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}}, Outputs: outputs,
		Finish: func(l *lang.Linked) error { return finishConvert(l, *a) },
	}, nil
}

// finishConvert reads the image in the format it has: nothing stands between.
func finishConvert(l *lang.Linked, a convert) (err error) {
	a.From, err = InputFormat(l, "image", "")
	l.Action = &a
	return err
}

// convert writes the image of the role "image" in another format.
type convert struct {
	From      string `param:"image"`
	Format    string
	Compress  string
	Subformat string
	Adapter   string
	Name      string // file name that the image records of itself, or of its data
}

// flat reports whether there are two outputs, the second of which has the data.
func (c *convert) flat() bool { return c.Subformat == "monolithicFlat" }

// Kind implements engine.Action. Under convert/1 another coder
// deflated, under convert/2 a streamOptimized vmdk had its directory at its end only.
func (c *convert) Kind() string { return "convert/3" }

// Run implements engine.Action.
func (c *convert) Run(ctx context.Context, job *engine.Job) error {
	src, err := OpenInput(ctx, job, "image", c.From, Undeclared())
	if err != nil {
		return err
	}
	o := disk.WriteOptions{Compress: c.Compress, Subformat: c.Subformat, Adapter: c.Adapter, Name: c.Name, Progress: job.Progress}
	if c.flat() {
		return errors.Join(disk.ConvertFlat(ctx, src, job.Output("disk"), job.Output("flat"), o), src.Close())
	}
	return errors.Join(disk.Convert(ctx, src, job.Output(""), c.Format, o), src.Close())
}

// OpenInput opens the input of that role, an image in the given format, for the
// caller to close. Its path is given up with the job.
func OpenInput(ctx context.Context, job *engine.Job, role, format string, o disk.OpenOptions) (disk.Image, error) {
	src, err := job.Expose(ctx, role)
	if err != nil {
		return nil, err
	}
	return disk.Open(src.Path, format, o)
}
