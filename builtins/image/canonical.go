package image

import (
	"context"
	"errors"
	"os"
	"time"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/ext4"
)

// Canonical is the operation canonical().
func Canonical() lang.Operation {
	return lang.Operation{
		Name: "canonical",
		Doc: `an image whose bytes follow from its content alone

The ext4 file system is laid out anew from what is in it, so that equal content is
equal bytes, on any machine and however the content got there. Times later than the
build's (SOURCE_DATE_EPOCH, by default 1970) become the build's; access and change
times do not count. Size, label, UUID, features and settings stay. It costs about as
much as reading and writing the data once.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Required: true, Doc: "the image, which is an ext4 file system"},
			lang.NameParam(),
		},
		Example: `canonical(":root", name = "release")`,
		Make: func(c *lang.Call) (lang.Step, error) {
			return rawStep(c, &canonical{}), nil
		},
	}
}

// canonical lays the file system in the raw image of the role "image" out anew.
type canonical struct{}

// Kind implements engine.Action.
func (*canonical) Kind() string { return "canonical/1" }

// Tools implements engine.Tooled.
func (*canonical) Tools() []engine.Tool { return ext4.Tools() }

// Run implements engine.Action.
func (*canonical) Run(ctx context.Context, job *engine.Job) error {
	src, err := job.Expose(ctx, "image")
	if err != nil {
		return err
	}
	return errors.Join(fsys.Canonical(ctx, src.Path, job.Output(""), job.Epoch()), src.Close())
}

// Canonicalize lays the file system in the raw image at path out anew, in its place.
func Canonicalize(ctx context.Context, path string, at time.Time) error {
	made := path + ".canonical"
	if err := fsys.Canonical(ctx, path, made, at); err != nil {
		return err
	}
	return os.Rename(made, path)
}
