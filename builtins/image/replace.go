package image

import (
	"context"
	"errors"
	"strconv"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
)

// Replace is the operation replace().
func Replace() lang.Operation {
	return lang.Operation{
		Name: "replace",
		Doc: `a disk with an image in the place of one partition's content

The table stays as it is. What does not fit is an error; the rest of the partition is
zero.`,
		Positional: 3,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the disk"},
			{Name: "number", Type: lang.Int | lang.String, Required: true, Doc: "which partition: its number from 1, its name, or its UUID"},
			{Name: "content", Type: lang.File, Required: true, Doc: "the image that goes into it"},
			lang.NameParam(),
		},
		Example: `replace("disk.qcow2", "root", ":root", name = "mine")`,
		Make:    replaceStep,
	}
}

func replaceStep(c *lang.Call) (lang.Step, error) {
	s := rawStep(c, &replace{Select: selector(c)})
	s.Inputs = append(s.Inputs, lang.StepInput{Role: "content", From: c.Input("content")})
	s.Finish = func(l *lang.Linked) error { return rawImages(l, "image", "content") }
	return s, nil
}

// selector is the argument number: a partition's number, name or UUID.
func selector(c *lang.Call) string {
	if s := c.String("number"); s != "" {
		return s
	}
	n := c.Int("number")
	if n < 1 || n > 256 {
		c.Errorf("number: partitions are numbered from 1 to 256, got %d", n)
	}
	return strconv.FormatInt(n, 10)
}

// replace puts the raw image of the role "content" into a partition of the raw disk
// of the role "image".
type replace struct {
	Select string `param:"number"` // number, name or UUID
}

// Kind implements engine.Action.
func (r *replace) Kind() string { return "replace/1" }

// Run implements engine.Action.
func (r *replace) Run(ctx context.Context, job *engine.Job) error {
	img, err := OpenInput(ctx, job, "content", "raw", disk.OpenOptions{})
	if err != nil {
		return err
	}
	err = job.Input("image").Fork(ctx, job.Output(""))
	if err == nil {
		err = disk.Replace(ctx, job.Output(""), r.Select, img)
	}
	return errors.Join(err, img.Close())
}
