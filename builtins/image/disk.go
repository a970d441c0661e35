package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
)

// Part is the operation part().
func Part() lang.Operation {
	return lang.Operation{
		Name:       "part",
		Doc:        "describes a partition for disk()\n\nIt holds the image given, or nothing. Its size is that of the image unless size says more.",
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Doc: "what the partition holds; nothing without it"},
			{Name: "type", Type: lang.String, Default: starlark.String("linux"), Doc: `what it is for: a name such as "linux", "efi", "swap", "bios-boot", a GUID, or "0x83" in an MBR`},
			{Name: "label", Type: lang.String, Doc: "the partition's name in a GPT"},
			{Name: "uuid", Type: lang.String, Doc: "its UUID in a GPT; by default derived from the disk and its place"},
			{Name: "size", Type: lang.Size, Doc: "its size; rounded up to whole sectors"},
			{Name: "fill", Type: lang.Bool, Doc: "take what the other partitions leave; one may"},
			{Name: "bootable", Type: lang.Bool, Doc: "set the flag that old boot code looks for"},
			{Name: "align", Type: lang.Size, Doc: "alignment of its start (default 1M)"},
		},
		Example: `part(":root", label = "root", fill = True)`,
		Value:   func(c *lang.Call) (starlark.Value, error) { return newPartMarker(c), nil },
	}
}

// partMarker is the value of part().
type partMarker struct {
	image lang.Input
	spec  diskPart
}

func newPartMarker(c *lang.Call) *partMarker {
	p := &partMarker{image: c.Input("image"), spec: diskPart{
		Name: c.String("label"), Type: c.String("type"), ID: c.String("uuid"), Size: c.Size("size"),
		Fill: c.Bool("fill"), Bootable: c.Bool("bootable"), Align: c.Size("align"),
	}}
	if p.image.IsZero() && p.spec.Size == 0 && !p.spec.Fill {
		c.Errorf("a partition needs an image, a size, or fill = True")
	}
	return p
}

// String implements starlark.Value.
func (p *partMarker) String() string { return "part()" }

// Type implements starlark.Value.
func (p *partMarker) Type() string { return "part" }

// Freeze implements starlark.Value; a marker never changes.
func (p *partMarker) Freeze() {}

// Truth implements starlark.Value.
func (p *partMarker) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (p *partMarker) Hash() (uint32, error) { return 0, errors.New("a part() can't be a key") }

// Disk is the operation disk().
func Disk() lang.Operation {
	return lang.Operation{
		Name: "disk",
		Doc: "a disk with a partition table, put together from images\n\n" +
			"The partitions lie one after the other, aligned to 1 MiB. UUIDs that are not given follow from what is, so that the same call gives the same disk.",
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "partitions", Type: lang.ListOf(lang.Value), Required: true, Doc: "part() for each partition, in order"},
			{Name: "table", Type: lang.String, Default: starlark.String("gpt"), Enum: []string{"gpt", "mbr"}, Doc: "kind of partition table"},
			{Name: "size", Type: lang.Size, Doc: "size of the disk; by default what the partitions need"},
			{Name: "sector", Type: lang.Int, Default: starlark.MakeInt(512), Doc: "size of a sector, 512 or 4096"},
			{Name: "id", Type: lang.String, Doc: "the disk's GUID, or eight hexadecimal digits for an MBR"},
			{Name: "boot_code", Type: lang.File, Doc: "machine code for the start of the disk, 440 bytes at most"},
		},
		Example: `disk(name = "disk", partitions = [part(":esp", type = "efi"), part(":root", label = "root", fill = True)], size = "8G")`,
		Make:    makeDisk,
	}
}

func makeDisk(c *lang.Call) (lang.Step, error) {
	d := &diskImage{Table: c.String("table"), Size: c.Size("size"), Sector: int(c.Int("sector")), ID: c.String("id")}
	s := lang.Step{Action: d, Outputs: lang.OneFile("raw")}
	var roles []string
	list := c.Elements("partitions")
	for i, v := range list {
		p, ok := v.(*partMarker)
		if !ok {
			c.Errorf("partitions: element %d: want part(...), got %s", i, v.Type())
			continue
		}
		spec := p.spec
		if spec.Image = !p.image.IsZero(); spec.Image {
			roles = append(roles, partRole(i))
			s.Inputs = append(s.Inputs, lang.StepInput{Role: partRole(i), From: p.image})
		}
		d.Parts = append(d.Parts, spec)
	}
	if len(list) == 0 {
		c.Errorf("partitions: a disk needs one")
	}
	s.Inputs = append(s.Inputs, lang.StepInput{Role: "boot code", From: c.Input("boot_code")})
	s.Finish = func(l *lang.Linked) error { return rawImages(l, roles...) }
	if err := d.check(); err != nil {
		c.Errorf("%w", err)
	}
	return s, nil
}

func partRole(i int) string { return "partition " + strconv.Itoa(i+1) }

// diskImage writes a partition table and the images of the roles
// "partition N", counted from 1, into their partitions.
type diskImage struct {
	Table  string
	Size   int64 // bytes; 0 follows from the partitions
	Sector int   // bytes
	ID     string
	Parts  []diskPart
}

// diskPart is one partition. Sizes are bytes.
type diskPart struct {
	Name, Type, ID string
	Size, Align    int64
	Fill, Bootable bool
	Image          bool // the role "partition N" is its content
}

// Kind implements engine.Action.
func (d *diskImage) Kind() string { return "disk/1" }

// check finds what is wrong whatever the size of the images: those are taken
// to be as small as can be.
func (d *diskImage) check() error {
	sizes := make([]int64, len(d.Parts))
	for i, p := range d.Parts {
		sizes[i] = max(p.Size, 1)
	}
	_, err := d.layout(sizes)
	return err
}

func (d *diskImage) layout(sizes []int64) (*partition.Table, error) {
	specs := make([]partition.Spec, len(d.Parts))
	for i, p := range d.Parts {
		specs[i] = partition.Spec{Name: p.Name, Type: p.Type, ID: p.ID, Size: sizes[i], Fill: p.Fill, Align: p.Align, Bootable: p.Bootable}
	}
	table, _, err := partition.Layout(specs, partition.LayoutOptions{Kind: d.Table, SectorSize: d.Sector, DiskID: d.ID, Size: d.Size})
	return table, err
}

// Run implements engine.Action.
func (d *diskImage) Run(ctx context.Context, job *engine.Job) (err error) {
	images, sizes, err := d.open(ctx, job)
	defer func() {
		for _, img := range images {
			err = errors.Join(err, img.Close())
		}
	}()
	if err != nil {
		return err
	}
	table, err := d.layout(sizes)
	if err != nil {
		return err
	}
	// Layout leaves extended partitions between the others, so contents go by
	// the order of those that hold something.
	contents := map[int]disk.Image{}
	usable := slices.DeleteFunc(slices.Clone(table.Partitions), func(p partition.Partition) bool { return p.Extended() })
	for i := range d.Parts {
		if img, ok := images[i]; ok {
			contents[usable[i].Number] = img
		}
		job.Logf("partition %d: %s at byte %d, %d bytes", usable[i].Number, d.Parts[i].Type, usable[i].Start, usable[i].Length)
	}
	boot, err := bootCode(job)
	if err != nil {
		return err
	}
	return disk.Assemble(ctx, job.Output(""), table, contents, boot)
}

// open opens the images, for the caller to close also after an error, and
// returns the sizes that the partitions need.
func (d *diskImage) open(ctx context.Context, job *engine.Job) (images map[int]disk.Image, sizes []int64, err error) {
	images, sizes = map[int]disk.Image{}, make([]int64, len(d.Parts))
	for i, p := range d.Parts {
		sizes[i] = p.Size
		if !p.Image {
			continue
		}
		img, err := OpenInput(ctx, job, partRole(i), "raw", disk.OpenOptions{})
		if err != nil {
			return images, nil, err
		}
		images[i] = img
		if p.Size > 0 && p.Size < img.Size() {
			return images, nil, fmt.Errorf("%s: size is %d bytes, and its image has %d", partRole(i), p.Size, img.Size())
		}
		sizes[i] = max(p.Size, img.Size())
	}
	return images, sizes, nil
}

func bootCode(job *engine.Job) ([]byte, error) {
	if !job.Has("boot code") {
		return nil, nil
	}
	code := job.Input("boot code")
	if size, err := code.Size(); err != nil || size > 440 {
		return nil, cmp.Or(err, fmt.Errorf("boot_code has %d bytes, and 440 have room", size))
	}
	return code.ReadAll(440)
}
