package builtins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"b9/engine"
	"b9/engine/config"
	"b9/engine/disk"
	"b9/engine/fsys"
	"b9/engine/repo"
)

func shareOperation(images *SharedImages) Operation {
	return Operation{
		Name: "share",
		Doc: `publishes an image under a name

The name is also that of the target. The image goes to what this machine shares
(` + "`b9 list -r local`" + `), from where ` + "`b9 push`" + ` sends it on, or with repo straight to
a repository. The result is a file that says what was published. A step that was
done is not done again: ` + "`b9 push`" + ` publishes again what was removed, and where
this machine has a newer version by now the build says how to push this one.`,
		Positional: 2,
		Params: []Param{
			{Name: "name", Type: aString, Required: true, Doc: "name of the shared image, and of the target"},
			{Name: "image", Type: aFile, Required: true, Doc: "the image to publish"},
			{Name: "format", Type: aString, Doc: "the format of a source file: raw, qcow2, vmdk, vdi, vhd or vhdx; by default from the ending of its name"},
			{Name: "repo", Type: aString, Doc: "name of the repository to publish in (default: local)"},
			{Name: "version", Type: aString, Doc: "version to give it; by default made of the time and the content"},
		},
		Example: `share("debian", image = ":root")`,
		make:    func(c *Call) (Step, error) { return makeShare(c, images) },
	}
}

func makeShare(c *Call, images *SharedImages) (Step, error) {
	s := &shareImage{Image: c.String("name"), Repo: c.String("repo"), Version: c.String("version"), Format: c.String("format"), images: images}
	if s.Format != "" {
		if _, err := disk.Lookup(s.Format); err != nil {
			c.Errorf("%w", err)
		}
	}
	if s.Repo == "" {
		s.Repo = config.LocalRepository
	}
	if err := repo.ValidName(s.Image); err != nil {
		c.Errorf("%w", err)
	}
	if s.Version != "" {
		if err := repo.ValidName(s.Version); err != nil {
			c.Errorf("version: %w", err)
		}
	}
	return Step{
		Action: s, Inputs: []StepInput{{"image", c.Input("image")}}, Outputs: oneFile("json"),
		Finish: func(l *Linked) error { return finishShare(l, s) },
	}, nil
}

// finishShare settles the format of the image.
func finishShare(l *Linked, s *shareImage) error {
	format, err := inputFormat(l, "image", s.Format)
	if err != nil {
		return err
	}
	done := *s
	done.Format = format
	done.image, _ = l.ref("image")
	l.Action = &done
	return nil
}

// shareImage publishes the image of the role "image".
type shareImage struct {
	Image   string
	Repo    string
	Version string
	Format  string
	images  *SharedImages `key:"-"`
	image   engine.Ref    `key:"-"`
}

// Kind implements engine.Action.
func (s *shareImage) Kind() string { return "share/1" }

// Run implements engine.Action.
func (s *shareImage) Run(ctx context.Context, job *engine.Job) (err error) {
	if job.World().Offline && s.Repo != config.LocalRepository {
		return fmt.Errorf("publishing in repository %q needs the network, which --offline forbids", s.Repo)
	}
	path := job.Input("image").Path()
	types, err := fileSystems(path, s.Format)
	if err != nil {
		return err
	}
	v := repo.Version{Name: s.Image, Version: s.Version, Format: s.Format, FileSystems: types, Origin: s.images.origin()}
	v.Origin.Label = job.Label()
	if key := job.InputKey("image"); !key.IsZero() {
		v.Key = key.String()
	}
	if v.Parent, err = s.parent(ctx, job); err != nil {
		return err
	}
	if s.Repo == config.LocalRepository {
		v, err = s.keep(ctx, job, v)
	} else {
		v, err = s.push(ctx, job, v)
	}
	if err != nil {
		return err
	}
	s.images.publish(Published{Repository: s.Repo, Version: v})
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), append(data, '\n'), 0o644)
}

// parent names the first shared image that this one was made from.
func (s *shareImage) parent(ctx context.Context, job *engine.Job) (string, error) {
	for _, n := range engine.Reachable(s.image) {
		if from, ok := n.Action().(*sharedImage); ok {
			l, err := from.resolve(ctx, job.World().Offline)
			return l.Name + "@" + l.Version, err
		}
	}
	return "", nil
}

// keep publishes the image for this machine: the store, which has it, keeps it.
func (s *shareImage) keep(ctx context.Context, job *engine.Job, v repo.Version) (repo.Version, error) {
	local, err := s.images.local()
	if err != nil {
		return v, err
	}
	in, st := job.Input("image"), job.World().Store
	o := in.Object()
	if in.Path() != st.Path(o.Digest) { // a file of the workspace
		if o, err = st.Import(ctx, in.Path()); err != nil {
			return v, err
		}
	}
	if v, err = local.Add(v, o); err != nil {
		return v, err
	}
	job.Logf("%s@%s for this machine", v.Name, v.Version)
	return v, nil
}

// push publishes the image in a repository.
func (s *shareImage) push(ctx context.Context, job *engine.Job, v repo.Version) (pushed repo.Version, err error) {
	r, err := s.images.open(ctx, s.Repo, func(p repo.Progress) { job.Progress(p.Done, p.Total) })
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	in := job.Input("image")
	if d := in.Object().Digest; in.Path() == job.World().Store.Path(d) { // else it is a file of the workspace
		v.Digest = repo.Digest(d)
	}
	pushed, t, err := r.Push(ctx, PushSpec(v, in.Path()))
	if err != nil {
		return pushed, engine.Elsewhere{Err: err}
	}
	job.Logf("%s@%s in repository %s: %d bytes sent, %d of %d were there", pushed.Name, pushed.Version, s.Repo, t.Sent, t.Reused, t.New+t.Reused)
	return pushed, nil
}

// PushSpec asks for the image at path to be published as what v says.
func PushSpec(v repo.Version, path string) repo.PushSpec {
	return repo.PushSpec{
		Path: path, Digest: v.Digest, Name: v.Name, Version: v.Version, Format: v.Format, FileSystems: v.FileSystems,
		Key: v.Key, Origin: v.Origin, Created: v.Created, Parent: v.Parent,
	}
}

// Lasts implements engine.Lasting: what was published for this machine is
// still there. Other repositories are not asked, for that takes the network.
func (s *shareImage) Lasts(ctx context.Context, outputs []*engine.Artifact) bool {
	if s.Repo != config.LocalRepository {
		return true
	}
	data, err := os.ReadFile(outputs[0].Path())
	var v repo.Version
	if err != nil || json.Unmarshal(data, &v) != nil {
		return false
	}
	local, err := s.images.local()
	if err != nil {
		return false
	}
	have, err := local.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version})
	if err != nil || have.Digest != v.Digest {
		return false
	}
	if _, err = local.Path(have); err != nil {
		return false
	}
	if newest, err := local.Resolve(ctx, repo.Selector{Name: v.Name}); err == nil && newest.Digest != have.Digest {
		s.images.publish(Published{Repository: s.Repo, Version: have, Newer: newest.Version})
	}
	return true
}

// Looks implements engine.Lasting.
func (s *shareImage) Looks() []engine.Look {
	if s.Repo != config.LocalRepository {
		return nil
	}
	local, err := s.images.local()
	if err != nil {
		return nil
	}
	return []engine.Look{engine.LookAt(filepath.Join(local.dir, localList))}
}

// fileSystems lists the file systems of a raw image: its own, or those of
// its partitions in their order.
func fileSystems(path, format string) ([]string, error) {
	if format != "raw" {
		return nil, nil
	}
	info, err := fsys.Probe(path, 0, 0)
	if err != nil || info.Type != "" {
		return []string{info.Type}, err
	}
	img, err := disk.Open(path, "raw", disk.OpenOptions{})
	if err != nil {
		return nil, err
	}
	table, err := disk.ReadTable(img, 0)
	if cerr := img.Close(); err != nil || cerr != nil {
		return nil, cerr // no table: nothing to tell of
	}
	var types []string
	for _, p := range table.Partitions {
		if info, err := fsys.Probe(path, p.Start, p.Length); err == nil && info.Type != "" {
			types = append(types, info.Type)
		}
	}
	return types, nil
}
