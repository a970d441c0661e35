package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
)

// importImageStep is image() with a source.
func importImageStep(c *lang.Call) (lang.Step, error) {
	for _, p := range []string{"content", "content_format", "label", "uuid", "features", "inode_ratio", "reserved", "free", "compress"} {
		if c.Given(p) {
			c.Errorf("%s is for a new file system, and source brings its own", p)
		}
	}
	format := c.String("format")
	CheckFormat(c, format)
	a := &importImage{Format: format}
	s := lang.Step{Inputs: []lang.StepInput{{Role: "image", From: c.Input("source")}}, Outputs: lang.OneFile("raw"), Action: a}
	backing := c.Inputs("backing")
	for i, in := range backing {
		s.Inputs = append(s.Inputs, lang.StepInput{Role: backingRole(i), From: in})
	}
	for _, e := range c.Entries("extents") {
		a.Extents = append(a.Extents, e.Key)
		s.Inputs = append(s.Inputs, lang.StepInput{Role: extentRole(e.Key), From: c.Operand(e.Value, lang.File, "extents["+strconv.Quote(e.Key)+"]")})
	}
	size := c.Size("size")
	s.Finish = func(l *lang.Linked) error { return finishImport(l, *a, len(backing), size) }
	return s, nil
}

// finishImport decides the formats of a source and of what it stands on, and
// resizes what was imported when a size was asked for.
func finishImport(l *lang.Linked, a importImage, backing int, size int64) (err error) {
	if a.Format, err = InputFormat(l, "image", a.Format); err != nil {
		return err
	}
	for i := range backing {
		under, err := InputFormat(l, backingRole(i), "")
		if err != nil {
			return err
		}
		a.Backing = append(a.Backing, under)
	}
	if len(a.Backing) > 0 && a.Format != "qcow2" {
		return fmt.Errorf("backing is for a qcow2, and the source is %s", a.Format)
	}
	if len(a.Extents) > 0 && a.Format != "vmdk" {
		return fmt.Errorf("extents are for a vmdk, and the source is %s", a.Format)
	}
	if size == 0 {
		l.Action = &a
		return nil
	}
	if a.Format != "raw" {
		n, err := l.Between("image", &a, l.Inputs, lang.OneFile("raw"))
		if err != nil {
			return err
		}
		l.Inputs = []engine.Input{{Role: "image", Ref: n.Ref("")}}
	}
	l.Action = &resize{Size: size}
	return nil
}

func backingRole(i int) string { return "backing " + strconv.Itoa(i+1) }

func extentRole(name string) string { return "extent " + name }

// importImage turns the image of the role "image", in a declared format,
// into a raw one. The images under it have the roles of backingRole, the next
// one first.
type importImage struct {
	Format  string
	Backing []string // formats of the images under it
	Extents []string // names of the files of a vmdk, which have the roles of extentRole
}

// Kind implements engine.Action.
func (i *importImage) Kind() string { return "import-image/1" }

// Run implements engine.Action.
func (i *importImage) Run(ctx context.Context, job *engine.Job) (err error) {
	o, used := Undeclared(), 0
	for n := len(i.Backing) - 1; n >= 0; n-- {
		below, err := job.Expose(ctx, backingRole(n)) // closed with the job
		if err != nil {
			return err
		}
		open := disk.BackedBy(below.Path, i.Backing[n], o)
		o = disk.OpenOptions{Backing: func(b disk.Backing) (disk.Image, error) { used++; return open(b) }}
	}
	o.Extent = func(name string) (string, error) {
		if !slices.Contains(i.Extents, name) {
			return "", fmt.Errorf("it is opened only where image(source = ..., extents = {%q: ...}) names it", name)
		}
		part, err := job.Expose(ctx, extentRole(name)) // closed with the job
		if err != nil {
			return "", err
		}
		return part.Path, nil
	}
	src, err := OpenInput(ctx, job, "image", i.Format, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if used < len(i.Backing) {
		return fmt.Errorf("backing names %d images, and the chain of the source ends after %d", len(i.Backing), used)
	}
	return disk.Convert(ctx, src, job.Output(""), "raw", disk.WriteOptions{Progress: job.Progress})
}

// Undeclared are the options for an image that has to stand on its own: what it
// records of an image under it or of files beside it is never opened.
func Undeclared() disk.OpenOptions {
	return disk.OpenOptions{Extent: func(name string) (string, error) {
		return "", fmt.Errorf("the image keeps its data in other files, which are opened only where image(source = ..., extents = {%q: ...}) names them", name)
	}, Backing: func(b disk.Backing) (disk.Image, error) {
		return nil, fmt.Errorf("the image stands on %q, which is opened only where image(source = ..., backing = [...]) names it", b.Path)
	}}
}
