package builtins

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"

	"github.com/zeebo/blake3"
	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

func digestOperation() lang.Operation {
	return lang.Operation{
		Name: "digest",
		Doc: "the digest of a file, as a file of hexadecimal digits\n\n" +
			"There is no line end behind them: the handle is made to be a value in templates, configurations and seeds.",
		Positional: 1,
		Params: []lang.Param{
			{Name: "file", Type: lang.File, Required: true, Doc: "the file, such as an image"},
			{Name: "algorithm", Type: lang.String, Default: starlark.String("sha256"), Enum: []string{"sha256", "sha512", "blake3"}, Doc: "how the digest is computed"},
		},
		Example: `template(content = "${sum}  root.img\n", vars = {"sum": digest(root)})`,
		Make: func(c *lang.Call) (lang.Step, error) {
			return lang.Step{
				Action:  &digestFile{Algorithm: c.String("algorithm")},
				Inputs:  []lang.StepInput{{Role: "file", From: c.Input("file")}},
				Outputs: lang.OneFile(""),
			}, nil
		},
	}
}

func sizeOperation() lang.Operation {
	return lang.Operation{
		Name: "size",
		Doc: "the size of a file in bytes, as a file of decimal digits\n\n" +
			"The holes of an image count. There is no line end behind the digits: the handle is made to be a value in templates, configurations and seeds.",
		Positional: 1,
		Params:     []lang.Param{{Name: "file", Type: lang.File, Required: true, Doc: "the file, such as an image"}},
		Example:    `template(content = "SIZE=${bytes}\n", vars = {"bytes": size(root)})`,
		Make: func(c *lang.Call) (lang.Step, error) {
			return lang.Step{Action: &sizeFile{}, Inputs: []lang.StepInput{{Role: "file", From: c.Input("file")}}, Outputs: lang.OneFile("")}, nil
		},
	}
}

// digestFile writes the digest of its input.
type digestFile struct{ Algorithm string }

// Kind implements engine.Action.
func (d *digestFile) Kind() string { return "digest/1" }

// Run implements engine.Action.
func (d *digestFile) Run(ctx context.Context, job *engine.Job) error {
	file, err := job.Input("file").Open()
	if err != nil {
		return err
	}
	defer file.Close()
	newHash, ok := hashes()[d.Algorithm]
	if !ok {
		return fmt.Errorf("unknown algorithm %q", d.Algorithm)
	}
	h := newHash()
	in, buf := io.NewSectionReader(file, 0, file.Size()), make([]byte, 1<<20)
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		_, _ = h.Write(buf[:n]) // never returns an error
		done += int64(n)
		job.Progress(done, file.Size())
		if err == io.EOF {
			return os.WriteFile(job.Output(""), []byte(hex.EncodeToString(h.Sum(nil))), 0o644)
		}
		if err != nil {
			return err
		}
	}
}

// hashes are the algorithms that digest() has.
func hashes() map[string]func() hash.Hash {
	return map[string]func() hash.Hash{"sha256": sha256.New, "sha512": sha512.New, "blake3": func() hash.Hash { return blake3.New() }}
}

// sizeFile writes the size of its input.
type sizeFile struct{}

// Kind implements engine.Action.
func (*sizeFile) Kind() string { return "size/1" }

// Run implements engine.Action.
func (*sizeFile) Run(_ context.Context, job *engine.Job) error {
	n, err := job.Input("file").Size()
	if err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), []byte(strconv.FormatInt(n, 10)), 0o644)
}
