package share

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"b9.build/b9/builtins/image"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/config"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/repo"
)

// Share is the operation share().
func Share() lang.Operation {
	return lang.Operation{
		Name: "share",
		Doc: `publishes an image under a name

The name is also that of the target. The image goes to what this machine shares
(` + "`b9 list -r local`" + `), from where ` + "`b9 push`" + ` sends it on, or with repo straight to
a repository. The result is a file that says what was published. A step that was
done is not done again: ` + "`b9 push`" + ` publishes again what was removed, and where
this machine has a newer version by now the build says how to push this one.`,
		Positional: 2,
		Params: []lang.Param{
			{Name: "name", Type: lang.String, Required: true, Doc: "name of the shared image, and of the target"},
			{Name: "image", Type: lang.File, Required: true, Doc: "the image to publish"},
			{Name: "format", Type: lang.String, Doc: "the format of a source file: raw, qcow2, vmdk, vdi, vhd or vhdx; by default from the ending of its name"},
			{Name: "repo", Type: lang.String, Doc: "name of the repository to publish in (default: local)"},
			{Name: "version", Type: lang.String, Doc: "version to give it; by default made of the time and the content"},
		},
		Example: `share("debian", image = ":root")`,
		Make:    makePublication,
	}
}

func makePublication(c *lang.Call) (lang.Step, error) {
	s := &publication{
		Image: c.String("name"), Repo: cmp.Or(c.String("repo"), config.LocalRepository), Version: c.String("version"), Format: c.String("format"),
	}
	image.CheckFormat(c, s.Format)
	if err := repo.ValidName(s.Image); err != nil {
		c.Errorf("%w", err)
	}
	if s.Version != "" {
		if err := repo.ValidName(s.Version); err != nil {
			c.Errorf("version: %w", err)
		}
	}
	return lang.Step{
		Action: s, Inputs: []lang.StepInput{{Role: "image", From: c.Input("image")}}, Outputs: lang.OneFile("json"),
		Finish: func(l *lang.Linked) error { return finishPublication(l, *s) },
	}, nil
}

// finishPublication notes the format of the image, and which shared image it was
// made from.
func finishPublication(l *lang.Linked, s publication) (err error) {
	if s.Format, err = image.OwnFormat(l, "image", s.Format); err != nil {
		return err
	}
	if ref, ok := l.Ref("image"); ok {
		s.From = originalOf(ref)
	}
	l.Action = &s
	return nil
}

// originalOf is the first shared image that an image is made from, nil if
// there is none.
func originalOf(ref engine.Ref) *reference {
	for _, n := range engine.Reachable(ref) {
		if from, ok := n.Action().(*reference); ok {
			return from
		}
	}
	return nil
}

// publication publishes the image of the role "image".
type publication struct {
	Image   string
	Repo    string
	Version string
	Format  string
	From    *reference `key:"-"` // what the image was made from; nil if it is no shared image
}

// Kind implements engine.Action.
func (s *publication) Kind() string { return "share/1" }

// Run implements engine.Action.
func (s *publication) Run(ctx context.Context, job *engine.Job) error {
	if job.World().Offline && s.Repo != config.LocalRepository {
		return fmt.Errorf("publishing in repository %q needs the network, which --offline forbids", s.Repo)
	}
	images, err := serviceOf(job.World())
	if err != nil {
		return err
	}
	src, err := job.Expose(ctx, "image") // closed with the job
	if err != nil {
		return err
	}
	types, err := fileSystems(src.Path, s.Format)
	if err != nil {
		return err
	}
	v := repo.Version{Name: s.Image, Version: s.Version, Format: s.Format, FileSystems: types, Origin: images.cfg.Origin()}
	v.Origin.Label = job.Label()
	if key := job.Input("image").Key(); !key.IsZero() {
		v.Key = key.String()
	}
	if v.Parent, err = s.parent(ctx, job.World()); err != nil {
		return err
	}
	if s.Repo == config.LocalRepository {
		v, err = s.keep(ctx, job, images, v, src.Path)
	} else {
		v, err = s.push(ctx, job, images, v, src.Path)
	}
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(job.Output(""), append(data, '\n'), 0o644)
}

// parent names the first shared image that this one was made from.
func (s *publication) parent(ctx context.Context, w *engine.World) (string, error) {
	if s.From == nil {
		return "", nil
	}
	l, err := s.From.resolve(ctx, w)
	return l.Name + "@" + l.Version, err
}

// keep publishes the image for this machine: the store, which has it, keeps it.
func (s *publication) keep(ctx context.Context, job *engine.Job, images *Images, v repo.Version, path string) (repo.Version, error) {
	local, err := images.cfg.Local()
	if err != nil {
		return v, err
	}
	o := job.Input("image").Object()
	if !job.Input("image").Stored() { // a file of the workspace
		if o, err = job.World().Store.Import(ctx, path); err != nil {
			return v, err
		}
	}
	if v, err = local.Add(ctx, v, o); err != nil {
		return v, err
	}
	job.Logf("%s@%s for this machine", v.Name, v.Version)
	return v, nil
}

// push publishes the image in a repository.
func (s *publication) push(ctx context.Context, job *engine.Job, images *Images, v repo.Version, path string) (pushed repo.Version, err error) {
	r, err := images.cfg.Open(ctx, s.Repo, func(p repo.Progress) { job.Progress(p.Done, p.Total) })
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if in := job.Input("image"); in.Stored() { // else it is a file of the workspace
		v.Digest = in.Digest()
	}
	spec := pushSpec(v)
	if spec.Path = path; !v.Digest.IsZero() {
		spec.Objects = job.World().Store
	}
	pushed, t, err := r.Push(ctx, spec)
	if err != nil {
		return pushed, engine.Elsewhere{Err: err}
	}
	job.Logf("%s@%s in repository %s: %d bytes sent, %d of %d were there", pushed.Name, pushed.Version, s.Repo, t.Sent, t.Reused, t.New+t.Reused)
	return pushed, nil
}

// pushSpec asks for an image to be published as what v says.
func pushSpec(v repo.Version) repo.PushSpec {
	return repo.PushSpec{
		Digest: v.Digest, Name: v.Name, Version: v.Version, Format: v.Format, FileSystems: v.FileSystems,
		Key: v.Key, Origin: v.Origin, Created: v.Created, Parent: v.Parent,
	}
}

// Lasts implements engine.Lasting: what was published for this machine is
// still there. Other repositories are not asked, for that takes the network.
func (s *publication) Lasts(ctx context.Context, w *engine.World, outputs []*engine.Artifact) bool {
	if s.Repo != config.LocalRepository {
		return true
	}
	images, err := serviceOf(w)
	if err != nil {
		return false
	}
	local, err := images.cfg.Local()
	if err != nil {
		return false
	}
	have, err := standingFor(ctx, local, outputs[0])
	if err != nil {
		return false
	}
	err = local.Present(have)
	return err == nil
}

// standingFor is the version that this machine has of what a share() says in
// its output that it published.
func standingFor(ctx context.Context, local *LocalImages, output *engine.Artifact) (repo.Version, error) {
	v, err := readVersion(output)
	if err != nil {
		return v, err
	}
	have, err := local.Resolve(ctx, repo.Selector{Name: v.Name, Version: v.Version})
	if err == nil && have.Digest != v.Digest {
		err = fmt.Errorf("%s@%s has another content by now", v.Name, v.Version)
	}
	return have, err
}

// readVersion reads the output of a share().
func readVersion(output *engine.Artifact) (v repo.Version, err error) {
	data, err := output.ReadAll(lang.MaxText)
	if err != nil {
		return v, err
	}
	err = json.Unmarshal(data, &v)
	return v, err
}

// Stamps implements engine.Lasting.
func (s *publication) Stamps(w *engine.World) []engine.Stamp {
	if s.Repo != config.LocalRepository {
		return nil
	}
	return []engine.Stamp{engine.StampOf(filepath.Join(LocalDir(w.Store.Dir()), localList))}
}

// Published is what a share() published, and where.
type Published struct {
	Repository string `json:"repository"`
	repo.Version
	// Newer is not empty for what an earlier build had published, and names
	// the version of this machine that b9 push means instead.
	Newer string `json:"newer,omitempty"`
}

// Published lists what the share() that ran in a build published, in that
// order, and then what those that did not have to run stand for where that is
// not the newest any more. Of a build that failed it lists what was done.
func (i *Images) Published(ctx context.Context, r *engine.Result) ([]Published, error) {
	var list []Published
	ran := map[*engine.Node]bool{}
	for _, n := range r.Ran {
		s, ok := n.Action().(*publication)
		if !ok {
			continue
		}
		v, err := readVersion(r.Outputs(n)[0])
		if err != nil {
			return list, err
		}
		ran[n] = true
		list = append(list, Published{Repository: s.Repo, Version: v})
	}
	for _, n := range r.Nodes() {
		s, ok := n.Action().(*publication)
		if !ok || ran[n] || s.Repo != config.LocalRepository || r.Outputs(n) == nil {
			continue
		}
		p, err := i.outdated(ctx, r.Outputs(n)[0])
		if err != nil {
			return list, err
		}
		if p.Newer != "" {
			list = append(list, p)
		}
	}
	return list, nil
}

// outdated says what the output of a share() stands for, and by what that was
// replaced on this machine.
func (i *Images) outdated(ctx context.Context, output *engine.Artifact) (p Published, err error) {
	local, err := i.cfg.Local()
	if err != nil {
		return p, err
	}
	have, err := standingFor(ctx, local, output)
	if err != nil {
		return p, err
	}
	p = Published{Repository: config.LocalRepository, Version: have}
	newest, err := local.Resolve(ctx, repo.Selector{Name: have.Name})
	if err == nil && newest.Digest != have.Digest {
		p.Newer = newest.Version
	}
	return p, err
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
	defer img.Close()
	table, err := partition.ReadTable(img, 0)
	if err != nil {
		return nil, nil // nothing to tell of
	}
	var types []string
	for _, p := range table.Partitions {
		if info, err := fsys.Probe(path, p.Start, p.Length); err == nil && info.Type != "" {
			types = append(types, info.Type)
		}
	}
	return types, nil
}

// Actions is the table of the actions of this package by their kinds, of which
// a type may have several.
func Actions() engine.Actions {
	return engine.Actions{
		"share/1":  func() engine.Action { return &publication{} },
		"shared/1": func() engine.Action { return &reference{} },
	}
}
