package lang

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"go.starlark.net/starlark"

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

// picked is a file of a directory, as it is taken out.
type picked struct {
	file Handle
	keep bool // see Member
}

// pick returns the declaration of the step that takes the file of h out of its
// directory. A build file has one for each file.
func (c *Call) pick(h *Handle, keep bool) *declaration {
	what := picked{*h, keep}
	if d := c.m.members[what]; d != nil {
		return d
	}
	from := Input{decl: h.decl, output: h.output, want: Tree, param: "file of a directory"}
	outputs := OneFile(strings.TrimPrefix(path.Ext(h.file), "."))
	if keep {
		outputs = OneTree()
	}
	d := &declaration{m: c.m, op: "file", step: Step{
		Action: &Member{Path: h.file, Keep: keep}, Inputs: []StepInput{{Role: "tree", From: from}}, Outputs: outputs,
	}}
	d.handle.decl = d
	c.m.calls++
	d.seq = c.m.calls
	c.locate(d)
	if c.m.members == nil {
		c.m.members = map[picked]*declaration{}
	}
	c.m.members[what] = d
	return d
}

// Kept is Operand, but that one file of a directory comes as a directory that holds
// nothing else: with its owner, permissions, attributes. Then kept is true.
func (c *Call) Kept(v starlark.Value, want Type, param string) (in Input, kept bool) {
	h, ok := v.(*Handle)
	if !ok || h.file == "" {
		return c.Operand(v, want, param), false
	}
	return Input{decl: c.pick(h, true), want: Tree, param: param}, true
}

// Member is the action behind step["output"]["file"]: one file of the directory of the
// role "tree".
type Member struct {
	Path string // slash-separated, below the directory
	Keep bool   // a directory that holds the file comes out, for a file alone has neither owner nor permissions
}

// Kind implements engine.Action.
func (m *Member) Kind() string { return "member/2" }

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
	if m.Keep {
		return m.keep(job, in)
	}
	return copyOut(in, job.Output(""))
}

func copyOut(in *os.File, dst string) error {
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// keep makes the directory that holds the file in alone. What a step made is in a copy
// of this step's own, out of which the file is moved. What is in a source directory has
// only a content, and whether it can be run.
func (m *Member) keep(job *engine.Job, in *os.File) error {
	dir := job.Output("")
	dst := filepath.Join(dir, path.Base(m.Path))
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return err
	}
	if job.Input("tree").Stored() {
		real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", in.Fd())) // whatever links lead there
		if err == nil {
			err = os.Rename(real, dst)
		}
		if err != nil {
			return err
		}
	} else if st, err := in.Stat(); err != nil {
		return err
	} else if err := errors.Join(copyOut(in, dst), os.Chmod(dst, st.Mode().Perm())); err != nil {
		return err
	}
	at := job.Epoch()
	return errors.Join(os.Chtimes(dst, at, at), os.Chtimes(dir, at, at))
}
