package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/container"
	"b9.build/b9/engine/internal/newfile"
	"b9.build/b9/engine/store"
)

// Job is what an action sees while it runs. It is for one goroutine.
type Job struct {
	node        *Node
	engine      *Engine
	inputs      []*Artifact   // in the order of the node's inputs
	fingerprint *store.Digest // of a source
	dir         string
	log         io.Writer
	trees       map[string]string // directories in dir that hold the tree of a role
	views       *views            // of the build
	seen        []string          // those that the action has a path of
	exposed     []*Exposed
	sandbox     *Sandbox
}

// Label names the step for messages.
func (j *Job) Label() string { return j.node.Label() }

// Dir is the step's private scratch directory, removed afterwards. After a
// failure it is kept for `b9 shell`.
func (j *Job) Dir() string { return j.dir }

// Log receives what the step prints. It is kept with the result.
func (j *Job) Log() io.Writer { return j.log }

// Logf adds one line to the log.
func (j *Job) Logf(format string, args ...any) { fmt.Fprintf(j.log, format+"\n", args...) }

// Where is the call in the build file that recorded the step, and the workspace that
// the file lies in: "" for none.
func (j *Job) Where() (workspace string, at Position) { return j.engine.cfg.Workspace, j.node.Where() }

// Epoch is the time to write into what the step makes, the same in every build.
func (j *Job) Epoch() time.Time { return j.engine.cfg.Epoch }

// World is the outside as sources see it.
func (j *Job) World() *World { return j.engine.world }

// Progress tells the user how far the step is. total 0 means unknown. Both count bytes.
func (j *Job) Progress(done, total int64) {
	j.engine.events(Event{Type: StepProgress, Node: j.node, Done: done, Total: total})
}

// Has reports whether the node has an input of that role.
func (j *Job) Has(role string) bool { return j.find(role) >= 0 }

// Input returns the artifact of that role. Asking for a role that the node
// does not have is a mistake in the action, and panics.
func (j *Job) Input(role string) *Artifact {
	i := j.find(role)
	if i < 0 {
		panic(fmt.Sprintf("%s: action %T asked for the undeclared input %q", j.Label(), j.node.action, role))
	}
	return j.inputs[i]
}

// Fingerprint is what the step's own source stood for when the key was made;
// zero for a step that is no Source.
func (j *Job) Fingerprint() store.Digest {
	if j.fingerprint == nil {
		return store.Digest{}
	}
	return *j.fingerprint
}

func (j *Job) find(role string) int {
	return slices.IndexFunc(j.node.opts.Inputs, func(in Input) bool { return in.Role == role })
}

// Expose gives the input of that role a path of the host for as long as the
// action needs it: a file, or a directory that holds the tree. It must not be
// written to. What the action does not close is closed when Run has returned,
// before the outputs are stored. A tree of the store is written into the step's
// directory, once, and stays there for `b9 shell` if the step fails. Of a source
// directory it is a view that the steps of the build share, see [Artifact.Fork].
func (j *Job) Expose(ctx context.Context, role string) (*Exposed, error) {
	a := j.Input(role)
	var x *Exposed
	var err error
	if a.Kind() == store.Tree {
		x = &Exposed{}
		x.Path, err = j.tree(ctx, role, a)
	} else {
		x, err = a.exposeIn(ctx, j.dir) // and stays there, too
	}
	if err != nil {
		return nil, err
	}
	j.exposed = append(j.exposed, x)
	return x, nil
}

// tree returns a directory that holds the tree of the role: a view, or one in
// the step's own directory.
func (j *Job) tree(ctx context.Context, role string, a *Artifact) (string, error) {
	if !a.Stored() {
		dir, err := j.views.dir(ctx, a)
		j.seen = append(j.seen, dir)
		return dir, err
	}
	if dir, ok := j.trees[role]; ok {
		return dir, nil
	}
	dir := filepath.Join(j.dir, fmt.Sprintf("tree%d", len(j.trees)))
	if err := a.Fork(ctx, dir); err != nil {
		return "", err
	}
	if j.trees == nil {
		j.trees = map[string]string{}
	}
	j.trees[role] = dir
	return dir, nil
}

// closeExposed closes what the action did not.
func (j *Job) closeExposed() error {
	var errs []error
	for _, x := range j.exposed {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// Output is the path at which the action must write the output of that
// name: a regular file or a directory, as declared.
func (j *Job) Output(name string) string { return filepath.Join(j.dir, outputFile(name)) }

// Written lists the parts [from, to) of the file at an output's path in which it may differ from
// the input of that role, which it is a fork of; nil where that is not known.
func (j *Job) Written(role, output string) ([][2]int64, error) {
	a := j.Input(role)
	if !a.Stored() {
		return nil, nil
	}
	return j.engine.cfg.Store.Written(a.Digest(), j.Output(output))
}

// Differences lists the parts [from, to), in order, in which the files that are inputs of two
// roles may differ; the shorter one counts as if zeros followed it. ok is false where that is not known.
func (j *Job) Differences(a, b string) (parts [][2]int64, ok bool, err error) {
	x, y := j.Input(a), j.Input(b)
	if !x.Stored() || !y.Stored() {
		return nil, false, nil
	}
	return j.engine.cfg.Store.Differences(x.Digest(), y.Digest())
}

// outputFile maps an output's name, which may be a mount point such as
// "/data", to a file name.
func outputFile(name string) string {
	if !strings.ContainsAny(name, "%/") {
		return "out" + name
	}
	return "out" + strings.NewReplacer("%", "%25", "/", "%2F").Replace(name)
}

// Backend opens the container backend that the configuration chose.
func (j *Job) Backend(ctx context.Context) (container.Backend, error) {
	return j.engine.backend(ctx)
}

// Sandbox says how to enter what a step works on: the container it runs
// its commands in.
type Sandbox struct {
	Spec container.Spec
	Note string // one line for the user, such as the command that failed
}

const sandboxFile = "sandbox.json"

// Enterable records how `b9 shell` enters the step's state if it fails from now on.
func (j *Job) Enterable(s Sandbox) { j.sandbox = &s }

func (j *Job) saveSandbox(ctx context.Context, dir string) error {
	if j.sandbox == nil {
		return nil
	}
	s := *j.sandbox
	s.Spec.Mounts = slices.Clone(s.Spec.Mounts)
	if err := j.keepViews(ctx, s.Spec.Mounts); err != nil {
		return err
	}
	for i, m := range s.Spec.Mounts {
		if rel, err := filepath.Rel(j.dir, m.Source); err == nil && filepath.IsLocal(rel) {
			s.Spec.Mounts[i].Source = rel
		}
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := newfile.Open(filepath.Join(dir, sandboxFile), os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// LoadSandbox reads how to enter a kept step; ok is false when it has no
// container to enter. Relative mounts are resolved beneath dir.
func LoadSandbox(dir string) (s Sandbox, ok bool, err error) {
	data, err := os.ReadFile(filepath.Join(dir, sandboxFile))
	if os.IsNotExist(err) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, false, fmt.Errorf("%s: %w", filepath.Join(dir, sandboxFile), err)
	}
	for i, m := range s.Spec.Mounts {
		if m.Source != "" && !filepath.IsAbs(m.Source) {
			s.Spec.Mounts[i].Source = filepath.Join(dir, m.Source)
		}
	}
	return s, true, nil
}
