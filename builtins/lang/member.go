package lang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"b9.build/b9/engine"
	"b9.build/b9/engine/store"
)

// member is the handle of a file of h, an output that is a directory.
func (h *Handle) member(output, name string) (*Handle, error) {
	if h.file != "" {
		return nil, fmt.Errorf("%s is one file already", h)
	}
	if !fs.ValidPath(name) || name == "." {
		return nil, fmt.Errorf("%q is no path below a directory, such as boot/core.img", name)
	}
	return &Handle{h.decl, output, name}, nil
}

// tree returns the output of h that is a directory, if h stands for one.
func (h *Handle) tree() (output string, ok bool) {
	out, ok := h.decl.output(h.output)
	if !ok && h.output == "" && len(h.decl.step.Outputs) == 1 {
		out, ok = h.decl.step.Outputs[0], true
	}
	return out.Name, ok && out.Kind == store.Tree
}

// pick returns the declaration of the step that takes the file of h out of its
// directory. A build file has one for each file.
func (c *Call) pick(h *Handle) *declaration {
	if d := c.m.members[*h]; d != nil {
		return d
	}
	from := Input{decl: h.decl, output: h.output, want: Tree, param: "file of a directory"}
	d := &declaration{m: c.m, op: "file", step: Step{
		Action: &Member{Path: h.file}, Inputs: []StepInput{{Role: "tree", From: from}}, Outputs: OneFile(strings.TrimPrefix(path.Ext(h.file), ".")),
	}}
	d.handle.decl = d
	c.m.calls++
	d.seq = c.m.calls
	c.locate(d)
	if c.m.members == nil {
		c.m.members = map[Handle]*declaration{}
	}
	c.m.members[*h] = d
	return d
}

// Member is the action behind step["output"]["file"]: one file of the directory of the
// role "tree".
type Member struct {
	Path string // slash-separated, below the directory
}

// Kind implements engine.Action.
func (m *Member) Kind() string { return "member/1" }

// Run implements engine.Action. A symbolic link does not lead out of the directory.
func (m *Member) Run(ctx context.Context, job *engine.Job) (err error) {
	src, err := job.Expose(ctx, "tree")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	root, err := os.OpenRoot(src.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	in, err := root.Open(m.Path)
	if err != nil {
		return fmt.Errorf("the directory has no file %q: %w", m.Path, errors.Unwrap(err))
	}
	defer in.Close()
	if st, err := in.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%q is no regular file", m.Path))
	}
	out, err := os.OpenFile(job.Output(""), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
