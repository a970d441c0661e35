package builtins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/blake3"
	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/store"
)

func cloudInitOperation() lang.Operation {
	return lang.Operation{
		Name: "cloud_init",
		Doc: `NoCloud seeds that tell cloud-init what to do at first boot

Each format is an output: "iso" and "vfat" are disk images with the volume name
that cloud-init looks for, "dir" is a directory. user_data, vendor_data,
network_config and meta_data are a dict, which becomes YAML; text of more than one
line; or a file (handle, label or path). Handles in a dict stand for their texts.

user_data and vendor_data may be a list of those: cloud-configs are merged by the
strategy, as merge_yaml() does, and what can't be merged (scripts, #include, jinja
templates and so on) makes a multi-part message together with the result. A text or
file on its own is taken as it is. A list for network_config is merged, too.

With vars or keep, ${name} in files and texts that are YAML stands for the value of
that name, as in merge_yaml(); scripts are left alone: template() is for them.

cloud-configs and network configurations are checked before anything is built:
keys, types, and values. The instance-id follows from the content unless meta_data
has one: changed user-data is applied again at the next boot, unchanged is not.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "user_data", Type: lang.Value, Doc: "what to do: a dict becomes #cloud-config"},
			{Name: "meta_data", Type: lang.Value, Doc: `about the machine, such as {"local-hostname": "web"}`},
			{Name: "vendor_data", Type: lang.Value, Doc: "as user_data, from the image's vendor"},
			{Name: "network_config", Type: lang.Value, Doc: "network configuration, version 1 or 2"},
			{Name: "files", Otherwise: `text is a step of its own: file(content = %[1]q)`, Type: lang.DictOf(lang.File), Doc: "further files of the seed by name"},
			{Name: "formats", Type: lang.ListOf(lang.String), Doc: `outputs to make (default ["iso"]): "iso", "vfat", "dir"`},
			varsParam("the values of ${name} in files and texts that are YAML; see merge_yaml()"),
			keepParam(),
			strategyParam(),
			{Name: "gzip", Type: lang.Bool, Default: starlark.False, Doc: "compress user-data and vendor-data"},
			silenceParam(),
		},
		Example: `cloud_init(name = "seed", user_data = {"package_update": True}, meta_data = {"local-hostname": "web"})`,
		Make:    cloudInitStep,
	}
}

func cloudInitStep(c *lang.Call) (lang.Step, error) {
	a := &cloudInit{Formats: c.Strings("formats"), Silence: silenced(c, "silence")}
	s := lang.Step{Action: a, Finish: finishCloudInit}
	b := seedBuilder{c: c, a: a, s: &s}
	a.Vars, s.Inputs = readVariables(c)
	strategy := readStrategy(c, "strategy")
	b.part(seedPart{Param: "user_data", Name: "user-data", Role: userPart, Strategy: strategy, Gzip: c.Bool("gzip")})
	b.part(seedPart{Param: "vendor_data", Name: "vendor-data", Role: userPart, Strategy: strategy, Gzip: c.Bool("gzip")})
	b.part(seedPart{Param: "network_config", Name: "network-config", Role: networkPart, Strategy: strategy})
	b.part(seedPart{Param: "meta_data", Name: "meta-data", Role: metaPart, Strategy: strategy})
	for _, e := range c.Entries("files") {
		b.file(e)
	}
	if len(a.Formats) == 0 {
		a.Formats = []string{"iso"}
	}
	for i, f := range a.Formats {
		if slices.Contains(a.Formats[:i], f) {
			c.Errorf("formats: %q is given twice", f)
			continue
		}
		s.Outputs = append(s.Outputs, b.output(f))
	}
	if !c.Failed() {
		b.check()
	}
	return s, nil
}

// finishCloudInit checks what is known before anything is built.
func finishCloudInit(l *lang.Linked) error {
	a := l.Action.(*cloudInit)
	t, err := a.Vars.with(linkedTexts(l), l.Pos())
	if err != nil {
		return err
	}
	for i := range a.Parts {
		p := &a.Parts[i]
		nameFiles(p.Docs, l)
		r, err := p.render(t, a.Silence)
		if err != nil {
			return ownPlace(err, l.Pos(), p.Param)
		}
		warn(l, r.warnings, a.Silence, p.Docs)
	}
	a.Vars.warnUnused(l, t)
	return nil
}

// seedBuilder collects the files of one cloud_init() call.
type seedBuilder struct {
	c *lang.Call
	a *cloudInit
	s *lang.Step
}

// output is one form of the seed. A seed holds passwords and keys, so nobody but its
// owner reads it.
func (b *seedBuilder) output(format string) engine.Output {
	switch format {
	case "iso":
		return engine.Output{Name: "iso", Kind: store.File, Ext: "iso", Mode: 0o600}
	case "vfat":
		return engine.Output{Name: "vfat", Kind: store.File, Ext: "img", Mode: 0o600}
	case "dir":
		return engine.Output{Name: "dir", Kind: store.Tree}
	}
	b.c.Errorf("%s", lang.Unknown("unknown format", format, []string{"iso", "vfat", "dir"}))
	return engine.Output{Name: format, Kind: store.File}
}

// part enters one of the standard files.
func (b *seedBuilder) part(p seedPart) {
	if !b.c.Given(p.Param) {
		return
	}
	var inputs []lang.StepInput
	p.Docs, inputs, p.List = readDocuments(b.c, p.Param)
	b.s.Inputs = append(b.s.Inputs, inputs...)
	b.a.Parts = append(b.a.Parts, p)
}

// check finds the mistakes of what is written in the call.
func (b *seedBuilder) check() {
	t, err := b.a.Vars.with(unknownTexts(), b.c.Pos())
	if err != nil {
		addMistakes(b.c, err)
		return
	}
	for i := range b.a.Parts {
		p := &b.a.Parts[i]
		if _, err := p.render(t, b.a.Silence); err != nil {
			addMistakes(b.c, ownPlace(err, b.c.Pos(), p.Param))
		}
	}
}

func (b *seedBuilder) file(e lang.Entry) {
	clean, names := path.Clean(e.Key), b.names()
	near := slices.IndexFunc(names, func(name string) bool { return clash(name, clean, slices.Contains(b.c.Strings("formats"), "vfat")) })
	switch {
	case e.Key == "" || path.IsAbs(clean) || clean == "." || clean == ".." || strings.HasPrefix(clean, "../"):
		b.c.Errorf("files: %q is not the name of a file in the seed", e.Key)
	case slices.Contains(names, clean):
		b.c.Errorf("files: there is a %q in the seed already", clean)
	case near >= 0:
		b.c.Errorf("files: %q and %q can't be in one seed: one is a file where the other needs a directory, or (on vfat) they differ only in case", names[near], clean)
	default:
		b.a.Files = append(b.a.Files, clean)
		b.s.Inputs = append(b.s.Inputs, lang.StepInput{Role: "file " + clean, From: b.c.Operand(e.Value, lang.File, "files["+strconv.Quote(e.Key)+"]")})
	}
}

// names lists the files of the seed so far.
func (b *seedBuilder) names() []string {
	names := []string{"user-data", "meta-data"}
	for _, p := range b.a.Parts {
		names = append(names, p.Name)
	}
	return append(names, b.a.Files...)
}

// clash reports whether two paths can't both be files: one leads through the
// other, or they are equal where case does not count.
func clash(a, b string, fold bool) bool {
	if fold {
		a, b = strings.ToLower(a), strings.ToLower(b)
	}
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}

// seedVolume is the volume name by which cloud-init's NoCloud data source
// finds a seed; on VFAT it is in capitals.
const seedVolume = "cidata"

// cloudInit makes NoCloud seeds. Each further file of a seed is an input of
// the role "file NAME".
type cloudInit struct {
	Parts   []seedPart `param:"[].Param"`
	Vars    given
	Files   []string // names of the further files
	Formats []string // iso, vfat, dir
	Silence []string
}

// Kind implements engine.Action.
func (c *cloudInit) Kind() string { return "cloud_init/4" }

// Run implements engine.Action.
func (c *cloudInit) Run(ctx context.Context, job *engine.Job) error {
	files, err := c.files(ctx, job)
	if err != nil {
		return err
	}
	for _, format := range c.Formats {
		if err := writeSeed(ctx, format, job.Output(format), job.Epoch(), files); err != nil {
			return fmt.Errorf("%s seed: %w", format, err)
		}
	}
	return nil
}

// files lists what goes into the seed, sorted by name.
func (c *cloudInit) files(ctx context.Context, job *engine.Job) ([]tree.File, error) {
	var files []tree.File
	user, meta := false, ""
	derive := true // the instance-id
	t, err := c.Vars.with(runTexts(job), engine.Position{})
	if err != nil {
		return nil, err
	}
	for i := range c.Parts {
		p := &c.Parts[i]
		r, err := p.render(t, c.Silence)
		if err != nil {
			return nil, ownPlace(err, p.Docs[0].At, p.Param)
		}
		user = user || p.Name == "user-data"
		if p.Role == metaPart && !r.identified {
			meta = r.text
			continue
		}
		derive = derive && p.Role != metaPart
		files = append(files, tree.File{Path: p.Name, Mode: 0o644, Data: []byte(r.text), Time: job.Epoch()})
	}
	if !user {
		files = append(files, tree.File{Path: "user-data", Mode: 0o644, Data: []byte("#cloud-config\n{}\n"), Time: job.Epoch()})
	}
	for _, name := range c.Files {
		src, err := job.Expose(ctx, "file "+name) // closed with the job
		if err != nil {
			return nil, err
		}
		files = append(files, tree.File{Path: name, Mode: 0o644, Source: src.Path, Time: job.Epoch()})
	}
	slices.SortFunc(files, func(a, b tree.File) int { return strings.Compare(a.Path, b.Path) })
	if derive {
		text := fmt.Sprintf("instance-id: %s\n%s", instanceID(job, meta, files), meta)
		files = append(files, tree.File{Path: "meta-data", Mode: 0o644, Data: []byte(text), Time: job.Epoch()})
	}
	return files, c.pack(files)
}

// pack compresses the files for which that is asked.
func (c *cloudInit) pack(files []tree.File) error {
	for i := range c.Parts {
		p := &c.Parts[i]
		f := &files[slices.IndexFunc(files, func(f tree.File) bool { return f.Path == p.Name })]
		var err error
		if f.Data, err = p.pack(string(f.Data)); err != nil {
			return err
		}
	}
	return nil
}

// instanceID derives the instance-id from everything else in the seed, before
// it is compressed. It decides whether cloud-init applies the seed on a machine that booted before.
func instanceID(job *engine.Job, meta string, files []tree.File) string {
	h := blake3.New()
	fmt.Fprintf(h, "%q", meta)
	for _, f := range files {
		fmt.Fprintf(h, "%q%q", f.Path, f.Data)
		if f.Source != "" {
			fmt.Fprint(h, job.Input("file "+f.Path).Digest())
		}
	}
	return fmt.Sprintf("b9-%x", h.Sum(nil)[:10])
}

func writeSeed(ctx context.Context, format, path string, at time.Time, files []tree.File) error {
	content := tree.FromFiles(files, at)
	switch format {
	case "iso":
		return iso9660.Make(ctx, path, iso9660.Options{VolumeID: seedVolume, Joliet: true, RockRidge: true, Time: at}, content)
	case "vfat":
		return vfat.Make(ctx, path, vfat.Options{Label: strings.ToUpper(seedVolume), Time: at}, content)
	}
	return writeDir(ctx, path, files, at)
}

// writeDir writes the files into a new directory, which is its owner's alone. Modes
// do not depend on the umask.
func writeDir(ctx context.Context, dir string, files []tree.File, at time.Time) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if err := root.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
			return err
		}
		if err := writeSeedFile(root, f); err != nil {
			return err
		}
	}
	return walk(ctx, dir, func(file, rel string, e os.DirEntry) error {
		mode := os.FileMode(0o644)
		switch {
		case rel == ".":
			mode = 0o700
		case e.IsDir():
			mode = 0o755
		}
		return errors.Join(os.Chmod(file, mode), os.Chtimes(file, at, at))
	})
}

func writeSeedFile(root *os.Root, f tree.File) error {
	if f.Source != "" {
		return copyInto(root, f.Source, f.Path, f.Mode)
	}
	return root.WriteFile(f.Path, f.Data, f.Mode)
}
