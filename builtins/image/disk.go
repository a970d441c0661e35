package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/disk/partition"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/xfs"
)

// Part is the operation part().
func Part() lang.Operation {
	return lang.Operation{
		Name: "part",
		Doc: `describes a partition for disk()

It holds the image given, or nothing. Its size is that of the image unless size or
fill says more, and an ext4, xfs or btrfs in it grows to that size; an xfs or a btrfs
that b9 can't make larger stays as it is, and the step's log says why. Its attribute uuid
is the UUID that it will have in a GPT, known before the disk is made: for an fstab or a
kernel command line in the image itself.`,
		Positional: 1,
		Params: []lang.Param{
			{Name: "image", Type: lang.File, Doc: "what the partition holds; nothing without it"},
			{Name: "type", Type: lang.String, Default: starlark.String("linux"), Doc: `what it is for: a name such as "linux", "efi", "swap", "bios-boot", "linux-root-x86-64-verity", a GUID, or "0x83" in an MBR`},
			{Name: "label", Type: lang.String, Doc: "the partition's name in a GPT"},
			{Name: "uuid", Type: lang.String, Doc: "its UUID in a GPT; by default derived from this call and its build file"},
			{Name: "size", Type: lang.Size, Doc: "its size; rounded up to whole sectors"},
			{Name: "fill", Type: lang.Bool, Doc: "take what the other partitions leave; one may"},
			{Name: "bootable", Type: lang.Bool, Doc: "set the flag that old boot code looks for"},
			{Name: "align", Type: lang.Size, Doc: "alignment of its start (default 1M)"},
			{Name: "attributes", Type: lang.ListOf(lang.String), Doc: `attributes in a GPT: "required", "no-block-io", "legacy-boot", "grow-fs", "read-only", "no-auto", or the number of a bit`},
			{Name: "format", Type: lang.String, Doc: "the format of an image file whose name does not tell it"},
			{Name: "grow", Type: lang.Bool, Default: starlark.True, Doc: "make an ext4, xfs or btrfs in it as large as it is"},
		},
		Example: `part(":root", label = "root", fill = True)`,
		Value:   func(c *lang.Call) (starlark.Value, error) { return newPartMarker(c), nil },
	}
}

// partMarker is the value of part().
type partMarker struct {
	image  lang.Input
	format string // of the image; "" where its name tells
	spec   diskPart
	uuid   string // given or derived
}

func newPartMarker(c *lang.Call) *partMarker {
	p := &partMarker{image: c.Input("image"), spec: diskPart{
		Name: c.String("label"), Type: c.String("type"), ID: c.String("uuid"), Size: c.Size("size"),
		Fill: c.Bool("fill"), Bootable: c.Bool("bootable"), Align: c.Size("align"), Grow: c.Bool("grow"),
	}, format: c.String("format"), uuid: strings.ToLower(c.String("uuid"))}
	var err error
	if p.spec.Attributes, err = partition.Attributes(c.Strings("attributes")); err != nil {
		c.Errorf("attributes: %w", err)
	}
	CheckFormat(c, p.format)
	if p.format != "" && p.image.IsZero() {
		c.Errorf("format is that of an image, and there is none")
	}
	if p.uuid == "" {
		p.uuid = partition.DeriveGUID("part", c.Identity(fmt.Sprintf("%q %q %d %v", p.spec.Name, p.spec.Type, p.spec.Size, p.spec.Fill)))
	}
	if p.image.IsZero() && p.spec.Size == 0 && !p.spec.Fill {
		c.Errorf("a partition needs an image, a size, or fill = True")
	}
	return p
}

// String implements starlark.Value.
func (p *partMarker) String() string { return "part()" }

// Type implements starlark.Value.
func (p *partMarker) Type() string { return "part" }

// Attr implements starlark.HasAttrs.
func (p *partMarker) Attr(name string) (starlark.Value, error) {
	if name == "uuid" {
		return starlark.String(p.uuid), nil
	}
	return nil, nil
}

// AttrNames implements starlark.HasAttrs.
func (p *partMarker) AttrNames() []string { return []string{"uuid"} }

// Freeze implements starlark.Value; a marker never changes.
func (p *partMarker) Freeze() {}

// Truth implements starlark.Value.
func (p *partMarker) Truth() starlark.Bool { return true }

// Hash implements starlark.Value.
func (p *partMarker) Hash() (uint32, error) { return 0, errors.New("a part() can't be a key") }

// GUID is the operation guid().
func GUID() lang.Operation {
	return lang.Operation{
		Name:       "guid",
		Doc:        "a GUID that follows from a name\n\nThe same name in the same build file gives the same one, and another build file another one. It is for IDs that have to be known at several places, such as disk(id = guid(\"disk\")).",
		Positional: 1,
		Params: []lang.Param{
			{Name: "about", Type: lang.String, Required: true, Doc: "what it is for"},
		},
		Example: `disk(name = "disk", id = guid("disk")[:8], table = "mbr", partitions = [part(":root")])`,
		Value: func(c *lang.Call) (starlark.Value, error) {
			return starlark.String(partition.DeriveGUID("guid", c.File()+" "+c.String("about"))), nil
		},
	}
}

// Disk is the operation disk().
func Disk() lang.Operation {
	return lang.Operation{
		Name: "disk",
		Doc: "a disk with a partition table, put together from images\n\n" +
			"The partitions lie one after the other, aligned to 1 MiB. UUIDs that are not given follow from what is, so that the same call gives the same disk. " +
			"Linux calls a partition of an MBR by the disk's id and its number, PARTUUID=ID-01: to know it before, give an id, such as guid(\"disk\")[:8].",
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "partitions", Type: lang.ListOf(lang.Value), Required: true, Doc: "part() for each partition, in order"},
			{Name: "table", Type: lang.String, Default: starlark.String("gpt"), Enum: []string{"gpt", "mbr"}, Doc: "kind of partition table"},
			{Name: "size", Type: lang.Size, Doc: "size of the disk; by default what the partitions need"},
			{Name: "sector", Type: lang.Int, Default: starlark.MakeInt(512), Doc: "size of a sector, 512 or 4096"},
			{Name: "id", Type: lang.String, Doc: "the disk's GUID, or eight hexadecimal digits for an MBR"},
			{Name: "format", Type: lang.String, Doc: "the format of image files in partitions whose names do not tell it"},
			{Name: "boot_code", Type: lang.File, Doc: "machine code for the start of the disk, 440 bytes at most"},
		},
		Example: `disk(name = "disk", partitions = [part(":esp", type = "efi"), part(":root", label = "root", fill = True)], size = "8G")`,
		Make:    makeDisk,
	}
}

func makeDisk(c *lang.Call) (lang.Step, error) {
	d := &diskImage{Table: c.String("table"), Size: c.Size("size"), Sector: int(c.Int("sector")), ID: c.String("id")}
	s := lang.Step{Action: d, Outputs: lang.OneFile("raw")}
	formats := map[string]string{} // those that part() declares, by role
	CheckFormat(c, c.String("format"))
	list := c.Elements("partitions")
	for i, v := range list {
		p, ok := v.(*partMarker)
		if !ok {
			c.Errorf("partitions: element %d: want part(...), got %s", i, v.Type())
			continue
		}
		spec := p.spec
		if d.Table == "gpt" {
			spec.ID = p.uuid
		}
		if spec.Image = !p.image.IsZero(); spec.Image {
			formats[partRole(i)] = p.format
			s.Inputs = append(s.Inputs, lang.StepInput{Role: partRole(i), From: p.image})
		}
		d.Parts = append(d.Parts, spec)
	}
	if len(list) == 0 {
		c.Errorf("partitions: a disk needs one")
	}
	s.Inputs = append(s.Inputs, lang.StepInput{Role: "boot code", From: c.Input("boot_code")})
	format := c.String("format")
	s.Finish = func(l *lang.Linked) error { return rawParts(l, formats, format) }
	if err := d.check(); err != nil {
		c.Errorf("%w", err)
	}
	return s, nil
}

// rawParts makes the images of the partitions raw. One whose name does not tell its
// format has that of part() or disk().
func rawParts(l *lang.Linked, formats map[string]string, otherwise string) error {
	for _, role := range slices.Sorted(maps.Keys(formats)) {
		declared := formats[role]
		if _, err := OwnFormat(l, role, declared); err != nil {
			declared = otherwise
		}
		if err := rawImage(l, role, declared, true); err != nil {
			return err
		}
	}
	return nil
}

func partRole(i int) string { return "partition " + strconv.Itoa(i+1) }

// diskImage writes a partition table and the images of the roles
// "partition N", counted from 1, into their partitions.
type diskImage struct {
	Table  string
	Size   int64 // bytes; 0 follows from the partitions
	Sector int   // bytes
	ID     string
	Parts  []diskPart `param:"partitions"`
}

// diskPart is one partition. Sizes are bytes.
type diskPart struct {
	Name, Type, ID string
	Size, Align    int64
	Fill, Bootable bool
	Attributes     uint64
	Image          bool // the role "partition N" is its content
	Grow           bool // its file system becomes as large as it is
}

// Kind implements engine.Action. Under disk/1 file systems did not grow, and other
// UUIDs were derived.
func (d *diskImage) Kind() string { return "disk/2" }

// Tools implements engine.Tooled.
func (d *diskImage) Tools() []engine.Tool {
	if slices.ContainsFunc(d.Parts, func(p diskPart) bool { return p.mayGrow() }) {
		return ext4.Tools()
	}
	return nil
}

// mayGrow reports whether p can be larger than the image in it, which then grows.
func (p *diskPart) mayGrow() bool { return p.Image && p.Grow && (p.Fill || p.Size > 0) }

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
		specs[i] = partition.Spec{Name: p.Name, Type: p.Type, ID: p.ID, Size: sizes[i], Fill: p.Fill, Align: p.Align, Bootable: p.Bootable, Attributes: p.Attributes}
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
			if images[i], err = d.fit(ctx, job, i, img, usable[i].Length); err != nil {
				return fmt.Errorf("%s: %w", partRole(i), err)
			}
			contents[usable[i].Number] = images[i]
		}
		job.Logf("partition %d: %s at byte %d, %d bytes", usable[i].Number, d.Parts[i].Type, usable[i].Start, usable[i].Length)
	}
	boot, err := bootCode(job)
	if err != nil {
		return err
	}
	return disk.Assemble(ctx, job.Output(""), table, contents, boot)
}

// fit returns what partition i holds, an image that goes into length bytes: img, or
// instead of it one whose file system has grown. A file system that no kernel would
// mount on sectors of this size is an error.
func (d *diskImage) fit(ctx context.Context, job *engine.Job, i int, img disk.Image, length int64) (disk.Image, error) {
	info, err := fsys.ProbeAt(img, img.Size())
	if err != nil {
		return img, err
	}
	sector := int64(d.Sector)
	if info.Type == xfs.Kind && info.Sector < sector {
		return img, fmt.Errorf("its xfs has sectors of %d bytes, and the disk those of %d, on which it can't be mounted: take an ext4 or a btrfs", info.Sector, sector)
	}
	if info.Type == "vfat" && info.Sector != sector {
		return img, fmt.Errorf("its vfat has sectors of %d bytes, and the disk those of %d: image(fs = \"vfat\", sector = %d) makes one that fits", info.Sector, sector, sector)
	}
	if isExt(info.Type) && info.BlockSize < sector {
		return img, fmt.Errorf("its file system has blocks of %d bytes, less than the disk's sectors of %d: make it with larger ones (mke2fs -b %d)", info.BlockSize, sector, sector)
	}
	if !d.Parts[i].mayGrow() || !resizable(info.Type) || length/growUnit == img.Size()/growUnit {
		return img, nil
	}
	job.Logf("partition %d: its file system grows from %d to %d bytes", i+1, img.Size(), length)
	larger, err := grown(ctx, img, job.Dir(), length)
	if errors.Is(err, fsys.ErrCantGrow) {
		job.Logf("partition %d: its %s stays as large as it is: %v", i+1, info.Type, err)
		return img, nil
	}
	if err != nil {
		return img, err
	}
	return larger, img.Close()
}

// growUnit is the least by which a file system is worth to grow: a block.
const growUnit = 4096

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
