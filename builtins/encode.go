package builtins

import (
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

func base64Operation() lang.Operation {
	return encodeOperation("base64", "a file in base64 (RFC 4648, section 4), on one line without an end",
		"The handle is made to be a value in configurations, such as the content of a write_files entry with encoding: b64.",
		`cloud_init(name = "seed", user_data = {"write_files": [{"path": "/srv/a.png", "encoding": "b64", "content": base64("a.png")}]})`)
}

func gzipOperation() lang.Operation {
	return encodeOperation("gzip", "a file compressed by gzip",
		"Name and time are not in it: equal content gives equal bytes. base64(gzip(x)) is what write_files calls gz+b64.",
		`cloud_init(name = "seed", user_data = {"write_files": [{"path": "/srv/a.txt", "encoding": "gz+b64", "content": base64(gzip("a.txt"))}]})`)
}

// encodeOperation is an operation that writes a file in another form.
func encodeOperation(form, what, more, example string) lang.Operation {
	return lang.Operation{
		Name: form, Doc: what + "\n\n" + more, Positional: 1,
		Params:  []lang.Param{{Name: "file", Type: lang.File, Required: true, Doc: "the file"}},
		Example: example,
		Make: func(c *lang.Call) (lang.Step, error) {
			ext := map[string]string{"gzip": "gz"}[form]
			return lang.Step{Action: &encodeFile{Form: form}, Inputs: []lang.StepInput{{Role: "file", From: c.Input("file")}}, Outputs: lang.OneFile(ext)}, nil
		},
	}
}

// encodeFile writes its input in another form: base64 or gzip.
type encodeFile struct{ Form string }

// Kind implements engine.Action.
func (e *encodeFile) Kind() string { return "encode/1" }

// Run implements engine.Action.
func (e *encodeFile) Run(ctx context.Context, job *engine.Job) error {
	in, err := job.Input("file").Open()
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(job.Output(""))
	if err != nil {
		return err
	}
	defer out.Close()
	w, err := encoder(e.Form, out)
	if err != nil {
		return err
	}
	if err := copyAll(ctx, job, w, in, in.Size()); err != nil {
		return err
	}
	return errors.Join(w.Close(), out.Close())
}

func encoder(form string, out io.Writer) (io.WriteCloser, error) {
	switch form {
	case "base64":
		return base64.NewEncoder(base64.StdEncoding, out), nil
	case "gzip":
		return gzip.NewWriterLevel(out, gzip.BestCompression)
	}
	return nil, fmt.Errorf("unknown form %q", form)
}

// copyAll copies a file into a writer, and reports how far it is.
func copyAll(ctx context.Context, job *engine.Job, w io.Writer, in io.ReaderAt, size int64) error {
	from := io.NewSectionReader(in, 0, size)
	for done := int64(0); done < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(w, from, min(1<<20, size-done))
		if err != nil {
			return err
		}
		done += n
		job.Progress(done, size)
	}
	return nil
}
