package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys/unpack"
)

// importImageStep is image() with a source.
func importImageStep(c *lang.Call) (lang.Step, error) {
	for _, p := range []string{"content", "content_format", "strip", "label", "uuid", "features", "inode_ratio", "reserved", "free", "compress", "sector", "fat"} {
		if c.Given(p) {
			c.Errorf("%s is for a new file system, and source brings its own", p)
		}
	}
	format := c.String("format")
	CheckFormat(c, format)
	a := &importImage{Format: format, Member: c.String("member"), Declared: format != ""}
	s := lang.Step{Inputs: []lang.StepInput{{Role: "image", From: c.Input("source")}}, Outputs: lang.OneFile("raw"), Action: a}
	backing := c.Inputs("backing")
	for i, in := range backing {
		s.Inputs = append(s.Inputs, lang.StepInput{Role: backingRole(i), From: in})
	}
	for _, e := range c.Entries("extents") {
		a.Extents = append(a.Extents, e.Key)
		s.Inputs = append(s.Inputs, lang.StepInput{Role: extentRole(e.Key), From: c.Operand(e.Value, lang.File, "extents["+strconv.Quote(e.Key)+"]")})
	}
	r := resize{Size: c.Size("size"), Grow: c.Bool("grow")}
	if r.Grow && r.Size == 0 {
		c.Errorf("grow goes with size")
	}
	s.Finish = func(l *lang.Linked) error { return finishImport(l, *a, len(backing), r) }
	return s, nil
}

// finishImport decides the formats of a source and of what it stands on, and
// resizes what was imported when a size was asked for.
func finishImport(l *lang.Linked, a importImage, backing int, r resize) (err error) {
	if a.Member != "" && a.Format == "" {
		a.Format, err = formatOfEnding(l, "image", strings.TrimPrefix(path.Ext(a.Member), "."), true)
		if err != nil {
			return err
		}
	}
	a.Packed = a.Member != "" || isPacked(l, "image")
	if a.Format, err = formatOf(l, "image", a.Format, true); err != nil {
		return err
	}
	for i := range backing {
		under, err := InputFormat(l, backingRole(i), "")
		if err != nil {
			return err
		}
		a.Backing = append(a.Backing, under)
	}
	if len(a.Backing) > 0 && a.Format != "qcow2" {
		return fmt.Errorf("backing is for a qcow2, and the source is %s", a.Format)
	}
	if len(a.Extents) > 0 && a.Format != "vmdk" {
		return fmt.Errorf("extents are for a vmdk, and the source is %s", a.Format)
	}
	if r.Size == 0 {
		l.Action = &a
		return nil
	}
	if a.Format != "raw" || a.Packed || downloaded(l, "image") && !a.Declared {
		n, err := l.Between("image", &a, l.Inputs, lang.OneFile("raw"))
		if err != nil {
			return err
		}
		l.Inputs = []engine.Input{{Role: "image", Ref: n.Ref("")}}
	}
	l.Action = &r
	return nil
}

// downloaded reports whether the input of that role comes from the network, so that
// nobody has looked at it before it is there.
func downloaded(l *lang.Linked, role string) bool {
	ref, ok := l.Ref(role)
	return ok && strings.HasPrefix(ref.Node.Action().Kind(), "fetch/")
}

func backingRole(i int) string { return "backing " + strconv.Itoa(i+1) }

func extentRole(name string) string { return "extent " + name }

// importImage turns the image of the role "image", in a declared format,
// into a raw one. The images under it have the roles of backingRole, the next
// one first.
type importImage struct {
	Format  string
	Backing []string // formats of the images under it
	Extents []string // names of the files of a vmdk, which have the roles of extentRole

	Packed   bool   `param:"source"` // the image is in a compressed file or an archive
	Member   string // which file of an archive it is
	Declared bool   `param:"format"` // the format was given, and is not that of a name
}

// Kind implements engine.Action.
func (i *importImage) Kind() string { return "import-image/2" }

// Run implements engine.Action.
func (i *importImage) Run(ctx context.Context, job *engine.Job) (err error) {
	o, used := Undeclared(), 0
	for n := len(i.Backing) - 1; n >= 0; n-- {
		below, err := job.Expose(ctx, backingRole(n)) // closed with the job
		if err != nil {
			return err
		}
		open := disk.BackedBy(below.Path, i.Backing[n], o)
		o = disk.OpenOptions{Backing: func(b disk.Backing) (disk.Image, error) { used++; return open(b) }}
	}
	o.Extent = func(name string) (string, error) {
		if !slices.Contains(i.Extents, name) {
			return "", fmt.Errorf("it is opened only where image(source = ..., extents = {%q: ...}) names it", name)
		}
		part, err := job.Expose(ctx, extentRole(name)) // closed with the job
		if err != nil {
			return "", err
		}
		return part.Path, nil
	}
	path, err := i.source(ctx, job)
	if err != nil {
		return err
	}
	src, err := disk.Open(path, i.Format, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	if i.Packed {
		if err := os.Remove(path); err != nil { // it stays open
			return err
		}
	}
	if used < len(i.Backing) {
		return fmt.Errorf("backing names %d images, and the chain of the source ends after %d", len(i.Backing), used)
	}
	return disk.Convert(ctx, src, job.Output(""), "raw", disk.WriteOptions{Progress: job.Progress})
}

// source returns the path of the file that is the image: the input, or what is packed
// in it.
func (i *importImage) source(ctx context.Context, job *engine.Job) (path string, err error) {
	src, err := job.Expose(ctx, "image") // closed with the job
	if err != nil {
		return "", err
	}
	if path = src.Path; i.Packed {
		path = filepath.Join(job.Dir(), "unpacked")
		w, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return "", err
		}
		if err := errors.Join(unpack.File(ctx, src.Path, w, i.Member), w.Close()); err != nil {
			return "", fmt.Errorf("unpack: %w", err)
		}
	}
	if i.Format == "raw" && !i.Declared {
		err = notRaw(path)
	}
	return path, err
}

// notRaw is an error if the file at path, which is raw by its name alone, begins like
// something else: it would become a disk of which no byte is right.
func notRaw(path string) error {
	kind, err := unpack.FileKind(path)
	if err != nil {
		return err
	}
	if kind != "" {
		return fmt.Errorf("its name says that it is raw, and it begins like what %s made: give it a name that says so, or format = \"raw\" if that is right", kind)
	}
	format, err := disk.Detect(path)
	var unread *disk.UnreadError
	if errors.As(err, &unread) {
		return fmt.Errorf("its name says that it is raw, and %w; give format = \"raw\" if it is raw nevertheless", err)
	}
	if err == nil && format != "raw" {
		err = fmt.Errorf("its name says that it is raw, and it looks like a %s: give format = %q, or format = \"raw\" if that is right", format, format)
	}
	return err
}

// Undeclared are the options for an image that has to stand on its own: what it
// records of an image under it or of files beside it is never opened.
func Undeclared() disk.OpenOptions {
	return disk.OpenOptions{Extent: func(name string) (string, error) {
		return "", fmt.Errorf("the image keeps its data in other files, which are opened only where image(source = ..., extents = {%q: ...}) names them", name)
	}, Backing: func(b disk.Backing) (disk.Image, error) {
		return nil, fmt.Errorf("the image stands on %q, which is opened only where image(source = ..., backing = [...]) names it", b.Path)
	}}
}
