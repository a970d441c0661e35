package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.starlark.net/starlark"

	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
	"b9.build/b9/engine/disk"
	"b9.build/b9/engine/fsys"
	"b9.build/b9/engine/fsys/btrfs"
	"b9.build/b9/engine/fsys/ext4"
	"b9.build/b9/engine/fsys/iso9660"
	"b9.build/b9/engine/fsys/mkfs"
	"b9.build/b9/engine/fsys/squashfs"
	"b9.build/b9/engine/fsys/swap"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/fsys/unpack"
	"b9.build/b9/engine/fsys/vfat"
	"b9.build/b9/engine/fsys/xfs"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/store"
)

// Defaults are what the configuration says about new file systems where a call
// says nothing. They are part of the key as if the call had given them.
type Defaults struct {
	Ext4Features []string // as mke2fs -O takes them
}

// Features are those of a new ext4 file system: what the call gives as features,
// else the default.
func (d Defaults) Features(c *lang.Call) []string {
	if c.Given("features") {
		return c.Strings("features")
	}
	return d.Ext4Features
}

// Image is the operation image().
func Image(d Defaults) lang.Operation {
	return lang.Operation{
		Name: "image",
		Doc: `an image: empty with a file system, filled from a tree or archive, or from an image file

Without source the image is new: size bytes with the file system fs, empty or
with content in it: a directory, or a tar archive (plain, gzip, zstd, xz or bzip2) with its
owners, modes, times, extended attributes and devices. ext4 holds everything; vfat (for an EFI
system partition) files and directories; xfs and btrfs everything but some lengths that they
do not have, and btrfs holds subvolumes; f2fs everything but devices and extended attributes;
iso9660 (Joliet and Rock Ridge), squashfs and erofs are as large as their content and
read-only; swap holds nothing. f2fs and erofs are made by their own programs, from a copy
of the content, which needs root where owners are others than the caller. With source it is that image as raw, in its
declared format; the format of a file is what the build file says (format=, else
the ending of the file's name), never what its bytes look like; but a source that is raw
by its name alone and begins like something else is an error. A source whose name ends
in .xz, .gz, .zst, .bz2 or .zip is unpacked, and member= takes a file out of an
archive. With source and size the image and its file system are resized.`,
		Params: []lang.Param{
			lang.NameParam(),
			{Name: "source", Type: lang.File, Doc: "an image file, handle or label to start from"},
			{Name: "format", Type: lang.String, Doc: "the format of a source file: raw, qcow2, vmdk, vdi, vhd or vhdx; by default from the ending of its name"},
			{Name: "backing", Type: lang.ListOf(lang.File), Doc: "the image under a qcow2 source that holds only differences, then the one under that and so on; what the source records of it does not count"},
			{Name: "extents", Type: lang.DictOf(lang.File), Doc: "the files in which a vmdk source keeps its data, by the names that its descriptor has for them; no other is opened"},
			{Name: "size", Type: lang.Size, Doc: "size of the image; without it as large as the content needs, plus free"},
			{Name: "free", Type: lang.Size, Doc: "space left free when the size follows from the content (default none)"},
			{Name: "fs", Type: lang.String, Default: starlark.String("ext4"), Enum: []string{"ext4", "xfs", "btrfs", "vfat", "iso9660", "squashfs", "erofs", "f2fs", "swap", "none"}, Doc: `file system of a new image; "none" leaves it empty`},
			{Name: "content", Type: lang.File | lang.Tree, Doc: "a directory or tar archive to fill a new file system with"},
			{Name: "content_format", Type: lang.String, Enum: []string{"tar"}, Doc: "what a content file is, where its name does not end in .tar, with .gz, .zst, .xz or .bz2 behind it or not"},
			{Name: "strip", Type: lang.Int, Min: 0, Max: 100, Doc: "how many leading parts of the names in an archive to leave out, as tar --strip-components"},
			{Name: "member", Type: lang.String, Doc: "the file that is the source in a source that is a tar or zip archive, compressed or not"},
			{Name: "label", Type: lang.String, Doc: "label of a new file system: at most 16 bytes for ext4, 12 for xfs, 255 for btrfs, 11 for vfat, 32 for iso9660, 15 for swap, 512 for f2fs; squashfs and erofs have none"},
			{Name: "uuid", Type: lang.String, Doc: "UUID of a new ext4, xfs, btrfs, erofs, f2fs or swap, XXXX-XXXX for vfat; by default derived from what it holds"},
			{Name: "features", Type: lang.ListOf(lang.String), Doc: `ext4 features to set, or to clear with ^, as mke2fs -O takes them, such as ["^64bit"]`},
			{Name: "inode_ratio", Type: lang.Size, Doc: "bytes for each inode of ext4, as mke2fs -i"},
			{Name: "reserved", Type: lang.Float | lang.Int, Doc: "percentage of ext4 blocks reserved for root (default 0)"},
			{Name: "compress", Type: lang.String, Enum: []string{"zstd", "gzip", "lz4", "lz4hc"}, Doc: "compression of a squashfs, zstd (the default) or gzip, or of an erofs, lz4 or lz4hc (default none)"},
			{Name: "subvolumes", Type: lang.DictOf(lang.String), Doc: `directories of a btrfs that become subvolumes, made where they are missing, by path, with the type that mkfs.btrfs --subvol has: "rw", "ro", "default" or "default-ro"`},
			{Name: "sector", Type: lang.Int, Doc: "size of the sectors of a vfat, 512 (the default) or 4096: those of the disk it goes to"},
			{Name: "fat", Type: lang.Int, Doc: "width of the allocation table of a vfat: 12, 16 or 32 bits; by default as its size asks for"},
			{Name: "grow", Type: lang.Bool, Doc: "with source and size: the last partition of a disk, and the ext4, xfs or btrfs in it, take the new room"},
		},
		Example: `image(name = "data", size = "2G", label = "data")`,
		Make:    func(c *lang.Call) (lang.Step, error) { return makeImageStep(c, d) },
	}
}

func makeImageStep(c *lang.Call, d Defaults) (lang.Step, error) {
	if c.Given("source") {
		return importImageStep(c)
	}
	m := &FileSystem{
		FS: c.String("fs"), Size: c.Size("size"), Free: c.Size("free"), Label: c.String("label"), UUID: c.String("uuid"),
		Features: d.Features(c), InodeRatio: c.Size("inode_ratio"), Reserved: c.Number("reserved"), Compress: c.String("compress"),
		Archive: c.String("content_format") == "tar", Sector: int(c.Int("sector")), FAT: int(c.Int("fat")),
		Strip: int(c.Int("strip")),
	}
	if m.Strip > 0 && !c.Given("content") {
		c.Errorf("strip is for the names in an archive, and there is no content")
	}
	if m.FS != "ext4" {
		m.Features = c.Strings("features") // which is refused
	}
	if m.FS == "none" {
		m.FS = ""
	}
	if c.Given("format") {
		c.Errorf("format is the format of a source: give source=, or convert() the image")
	}
	for _, p := range []string{"backing", "extents", "grow", "member"} {
		if c.Given(p) {
			c.Errorf("%s is for a source, and there is none", p)
		}
	}
	if c.Given("content_format") && !c.Given("content") {
		c.Errorf("content_format is the format of content, which is missing")
	}
	checkFileSystem(c, m)
	out := lang.OneFile("raw")
	if m.FS == "iso9660" {
		out = lang.OneFile("iso")
	}
	finish := func(m FileSystem) engine.Action { return &m }
	if m.FS == btrfs.Kind {
		subvolumes := stringsOf(c, "subvolumes")
		if err := btrfs.CheckSubvolumes(subvolumes); err != nil {
			c.Errorf("subvolumes: %w", err)
		}
		finish = func(m FileSystem) engine.Action { return &btrfsImage{Image: m, Subvolumes: subvolumes} }
	}
	return lang.Step{
		Action: finish(*m), Inputs: []lang.StepInput{{Role: "content", From: c.Input("content")}}, Outputs: out,
		Finish: func(l *lang.Linked) error { return finishContent(l, *m, finish) },
	}, nil
}

// stringsOf is a dictionary of strings.
func stringsOf(c *lang.Call, param string) map[string]string {
	out := map[string]string{}
	for _, e := range c.Entries(param) {
		text, _ := starlark.AsString(e.Value)
		out[e.Key] = text
	}
	return out
}

// fsTraits is what image() takes for a file system.
type fsTraits struct {
	sized   bool     // size is how large the image is; else it follows from the content
	content bool     // can be filled
	must    bool     // and has to be
	label   int      // bytes of a label
	params  []string // that only some have

	compress []string // how it can be compressed
}

func traitsOf(fs string) fsTraits {
	switch fs {
	case "ext4":
		return fsTraits{sized: true, content: true, label: 16, params: []string{"free", "uuid", "features", "inode_ratio", "reserved"}}
	case xfs.Kind:
		return fsTraits{sized: true, content: true, label: xfs.MaxLabel, params: []string{"free", "uuid"}}
	case btrfs.Kind:
		return fsTraits{sized: true, content: true, label: btrfs.MaxLabel, params: []string{"free", "uuid", "subvolumes"}}
	case "vfat":
		return fsTraits{sized: true, content: true, label: 11, params: []string{"free", "uuid", "sector", "fat"}}
	case "iso9660":
		return fsTraits{content: true, must: true, label: 32}
	case "squashfs":
		return fsTraits{content: true, must: true, params: []string{"compress"}, compress: []string{"zstd", "gzip"}}
	case mkfs.EROFS:
		return fsTraits{content: true, must: true, params: []string{"compress", "uuid"}, compress: []string{"lz4", "lz4hc"}}
	case mkfs.F2FS:
		return fsTraits{sized: true, content: true, label: 512, params: []string{"free", "uuid"}}
	case "swap":
		return fsTraits{sized: true, label: 15, params: []string{"uuid"}}
	}
	return fsTraits{sized: true}
}

// checkFileSystem refuses what the file system has no use for.
func checkFileSystem(c *lang.Call, m *FileSystem) {
	t, name := traitsOf(m.FS), c.String("fs")
	switch {
	case m.FS == "" && c.Given("content"):
		c.Errorf(`content needs a file system: leave out fs = "none"`)
	case !t.content && c.Given("content"):
		c.Errorf("fs = %q holds no content", name)
	case t.must && !c.Given("content"):
		c.Errorf("fs = %q needs content", name)
	case !t.sized && c.Given("size"):
		c.Errorf("fs = %q is as large as its content: leave size out", name)
	case t.sized && !c.Given("size") && !c.Given("content"):
		c.Errorf("an image needs a size, a source or content")
	case t.sized:
		checkLeast(c, name)
	}
	if len(m.Label) > t.label && m.Label != "" {
		if t.label == 0 {
			c.Errorf("fs = %q has no label", name)
		} else {
			c.Errorf("label %q is longer than the %d bytes that %s has for it", m.Label, t.label, name)
		}
	}
	for _, p := range []string{"free", "uuid", "features", "inode_ratio", "reserved", "compress", "subvolumes", "sector", "fat"} {
		if c.Given(p) && !slices.Contains(t.params, p) {
			c.Errorf("%s is not for fs = %q", p, name)
		}
	}
	if m.Compress != "" && slices.Contains(t.params, "compress") && !slices.Contains(t.compress, m.Compress) {
		c.Errorf("compress = %q is not for fs = %q: it has %s", m.Compress, name, lang.Listed(t.compress))
	}
	if m.Sector != 0 && m.Sector != 512 && m.Sector != 4096 {
		c.Errorf("sector: want 512 or 4096, got %d", m.Sector)
	}
	if m.FAT != 0 && m.FAT != 12 && m.FAT != 16 && m.FAT != 32 {
		c.Errorf("fat: want 12, 16 or 32, got %d", m.FAT)
	}
	if m.FS == "vfat" && m.UUID != "" {
		if _, err := volumeID(m.UUID); err != nil {
			c.Errorf("uuid: %w", err)
		}
	}
}

// checkLeast refuses a size that no file system fs has. Size 0 beside content
// is as if it were not given.
func checkLeast(c *lang.Call, fs string) {
	n, ok := lang.Integer(c.Value("size"))
	least := max(fsys.Least(fs), 1)
	if !ok || n < 0 || n >= least || n == 0 && c.Given("content") {
		return // a negative one is refused already
	}
	if fs == "none" {
		c.Errorf("size: an image of 0 bytes holds nothing")
		return
	}
	c.Errorf("size: %s is below the least for fs = %q, %s", size.About(n), fs, size.About(least))
}

// volumeID reads a vfat serial number such as "1234-ABCD".
func volumeID(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.Replace(s, "-", "", 1), 16, 32)
	if err != nil || len(s) != 9 || s[4] != '-' || n == 0 {
		return 0, fmt.Errorf("%q is no vfat serial number, such as 1234-ABCD", s)
	}
	return uint32(n), nil
}

// finishContent tells an archive from a directory.
func finishContent(l *lang.Linked, m FileSystem, finish func(m FileSystem) engine.Action) error {
	out, ok := l.Output("content")
	switch {
	case !ok:
		return nil
	case out.Kind == store.Tree && m.Archive:
		return errors.New("content is a directory, and content_format says that it is a file")
	case out.Kind == store.Tree && m.Strip > 0:
		return errors.New("strip is for the names in an archive, and content is a directory")
	case out.Kind == store.Tree || m.Archive:
		return nil
	}
	name := l.SourceName("content")
	m.Archive = slices.ContainsFunc([]string{name, "x." + out.Ext}, func(name string) bool {
		inner, _ := unpack.Ending(name)
		return strings.HasSuffix(inner, ".tar") && !strings.HasSuffix(name, ".zip")
	})
	l.Action = finish(m)
	if m.Archive {
		return nil
	}
	return fmt.Errorf("content: the name of %s does not say that it is a tar archive (.tar, or with .gz, .zst, .xz or .bz2 behind it): if it is one say content_format = \"tar\"", name)
}

// InputFormat is the format in which the input of that role is read: the one
// declared, else the one that the name of its file or the step that makes it
// says. An overlay that nothing has written to yet gives way to the image it
// stands on: their content is the same.
func InputFormat(l *lang.Linked, role, declared string) (string, error) {
	return checkedFormat(l, role, declared, false)
}

// OwnFormat is InputFormat for an operation that has a parameter format itself, which
// the hint asks for.
func OwnFormat(l *lang.Linked, role, declared string) (string, error) {
	return checkedFormat(l, role, declared, true)
}

// checkedFormat is formatOf. What comes from the network and is raw by its name alone is
// looked at by an import step between: nobody has seen it before it is there.
func checkedFormat(l *lang.Linked, role, declared string, own bool) (string, error) {
	format, err := formatOf(l, role, declared, own)
	if err != nil || format != "raw" || declared != "" || !downloaded(l, role) || isPacked(l, role) {
		return format, err
	}
	return format, importBetween(l, role, &importImage{Format: format})
}

func formatOf(l *lang.Linked, role, declared string, own bool) (string, error) {
	format, err := declaredFormat(l, role, declared, own)
	if err != nil {
		return "", err
	}
	for {
		ref, ok := l.Ref(role)
		if !ok {
			return "", fmt.Errorf("%s: no image was given", role)
		}
		below, under, ok := Beneath(ref)
		if !ok {
			return format, nil
		}
		l.SetRef(role, below)
		format = under
	}
}

// CheckFormat refuses a format that there is not; "" leaves it open.
func CheckFormat(c *lang.Call, format string) {
	if _, err := disk.Lookup(format); err != nil && format != "" {
		c.Errorf("%w", err)
	}
}

func declaredFormat(l *lang.Linked, role, declared string, own bool) (string, error) {
	if declared != "" {
		return declared, nil
	}
	ext := endingOf(l, role)
	if inner, packed := unpack.Ending("x." + ext); packed && own {
		ext = strings.TrimPrefix(path.Ext(inner), ".")
	}
	format, err := formatOfEnding(l, role, ext, own)
	if source, ok := sourceFile(l, role); ok && err == nil && format == "raw" && !isPacked(l, role) {
		if err := notRaw(source); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("%s: %w", l.SourceName(role), err)
		}
	}
	return format, err
}

// sourceFile is the path of an input that is a file of the workspace.
func sourceFile(l *lang.Linked, role string) (string, bool) {
	ref, ok := l.Ref(role)
	if !ok {
		return "", false
	}
	f, ok := ref.Node.Action().(*engine.FileSource)
	if !ok {
		return "", false
	}
	return f.Path, true
}

// endingOf is the ending of the name of an input, of two parts for one that is packed.
func endingOf(l *lang.Linked, role string) string {
	out, _ := l.Output(role)
	name := l.SourceName(role)
	if inner, packed := unpack.Ending(name); packed && path.Ext(inner) != "" && strings.HasSuffix(name, "."+out.Ext) {
		return strings.TrimPrefix(path.Ext(inner)+"."+out.Ext, ".")
	}
	return out.Ext
}

// isPacked reports whether the name of an input says that it is compressed.
func isPacked(l *lang.Linked, role string) bool {
	_, packed := unpack.Ending("x." + endingOf(l, role))
	return packed
}

func formatOfEnding(l *lang.Linked, role, ext string, own bool) (string, error) {
	if ext == "img" || ext == "iso" {
		ext = "raw"
	}
	if f, err := disk.Lookup(ext); err == nil {
		return f.Name(), nil
	}
	hint := fmt.Sprintf("give format = (%s)", lang.Listed(formatNames()))
	if !own {
		hint = fmt.Sprintf("give image(source = ..., format = ...) in its place (%s)", lang.Listed(formatNames()))
	}
	if err := disk.Unread(ext); err != nil {
		return "", fmt.Errorf("%s: %w", l.SourceName(role), err)
	}
	return "", fmt.Errorf("%s: the ending of its name does not say its format: %s", l.SourceName(role), hint)
}

func formatNames() []string {
	var names []string
	for _, f := range disk.Formats() {
		names = append(names, f.Name())
	}
	return names
}

// rawImages makes every input of an image raw that is not, by an import step between.
func rawImages(l *lang.Linked, roles ...string) error {
	for _, role := range roles {
		if err := rawImage(l, role, "", false); err != nil {
			return err
		}
	}
	return nil
}

// rawImage does that for one, in the format declared, as formatOf has it.
func rawImage(l *lang.Linked, role, declared string, own bool) error {
	packed := isPacked(l, role)
	format, err := checkedFormat(l, role, declared, own)
	if err != nil || format == "raw" && !packed {
		return err
	}
	return importBetween(l, role, &importImage{Format: format, Packed: packed, Declared: declared != ""})
}

// importBetween puts an import step before the input of that role.
func importBetween(l *lang.Linked, role string, a *importImage) error {
	ref, _ := l.Ref(role)
	n, err := l.Between("image", a, []engine.Input{{Role: "image", Ref: ref}}, lang.OneFile("raw"))
	if err != nil {
		return err
	}
	l.SetRef(role, n.Ref(""))
	return nil
}

// FileSystem makes an image with a new file system, empty or holding the tree
// or the archive of the role "content".
type FileSystem struct {
	FS         string // as the parameter, or "" for an image of zeros
	Size       int64  // bytes; 0 fits the content
	Free       int64  // bytes left free when Size is 0
	Label      string
	UUID       string
	Features   []string
	InodeRatio int64
	Reserved   float64 // percent
	Compress   string  // of squashfs and erofs
	Archive    bool    `param:"content_format"` // content is a tar archive
	Strip      int     // parts of the names in an archive that are left out
	Sector     int     // bytes, of vfat; 0: 512
	FAT        int     // width of the table of vfat in bits; 0 follows from the size
}

// Kind implements engine.Action.
func (m *FileSystem) Kind() string { return "make-image/3" }

// Tools implements engine.Tooled.
func (m *FileSystem) Tools() []engine.Tool {
	switch m.FS {
	case "ext4":
		return ext4.Tools()
	case xfs.Kind:
		return xfs.Tools()
	}
	return mkfs.Tools(m.FS)
}

// Run implements engine.Action.
func (m *FileSystem) Run(ctx context.Context, job *engine.Job) error {
	if m.FS == "" {
		if err := os.WriteFile(job.Output(""), nil, 0o600); err != nil {
			return err
		}
		return os.Truncate(job.Output(""), m.Size)
	}
	return m.withContent(ctx, job, func(content tree.Content) error { return m.Fill(ctx, job.Output(""), job.Epoch(), content) })
}

// withContent calls do with the content, nil where there is none.
func (m *FileSystem) withContent(ctx context.Context, job *engine.Job, do func(tree.Content) error) error {
	if !job.Has("content") {
		return do(nil)
	}
	src, err := job.Expose(ctx, "content")
	if err != nil {
		return err
	}
	content := tree.FromDir(src.Path)
	if m.Archive {
		content = tree.FromTarFileStripped(src.Path, m.Strip)
	}
	return errors.Join(do(content), src.Close())
}

// btrfsImage makes an image with a btrfs.
type btrfsImage struct {
	Image      FileSystem `param:"fs"`
	Subvolumes map[string]string
}

// Kind implements engine.Action.
func (b *btrfsImage) Kind() string { return "make-btrfs/1" }

// Run implements engine.Action.
func (b *btrfsImage) Run(ctx context.Context, job *engine.Job) error {
	return b.Image.withContent(ctx, job, func(content tree.Content) error {
		return FillBtrfs(ctx, job.Output(""), job.Epoch(), b.Image, b.Subvolumes, content)
	})
}

// FillBtrfs makes a btrfs in a new file at path; content is nil where there is none.
// What content has no time for gets the time at.
func FillBtrfs(ctx context.Context, path string, at time.Time, m FileSystem, subvolumes map[string]string, content tree.Content) error {
	o := btrfs.Options{Size: m.Size, Free: m.Free, Label: m.Label, UUID: m.UUID, Subvolumes: subvolumes, Time: at}
	return btrfs.Make(ctx, path, o, content)
}

// Fill makes the file system in a new file at path; content is nil where there
// is none. What it makes itself gets the time at.
func (m *FileSystem) Fill(ctx context.Context, path string, at time.Time, content tree.Content) error {
	switch m.FS {
	case "vfat":
		o := vfat.Options{Size: m.Size, Free: m.Free, Label: m.Label, Time: at, Sector: m.Sector, Bits: m.FAT}
		if m.UUID != "" {
			id, err := volumeID(m.UUID)
			if err != nil {
				return err
			}
			o.VolumeID = id
		}
		return vfat.Make(ctx, path, o, content)
	case xfs.Kind:
		return xfs.Make(ctx, path, xfs.Options{Size: m.Size, Free: m.Free, Label: m.Label, UUID: m.UUID, Time: at}, content)
	case "iso9660":
		return iso9660.Make(ctx, path, iso9660.Options{VolumeID: m.Label, Joliet: true, RockRidge: true, Time: at}, content)
	case "squashfs":
		return squashfs.Make(ctx, path, squashfs.Options{Compress: m.Compress, Time: at}, content)
	case mkfs.EROFS, mkfs.F2FS:
		return mkfs.Make(ctx, path, m.FS, mkfs.Options{Size: m.Size, Free: m.Free, Label: m.Label, UUID: m.UUID, Compress: m.Compress, Time: at}, content)
	case "swap":
		return swap.Make(ctx, path, swap.Options{Size: m.Size, Label: m.Label, UUID: m.UUID})
	}
	return ext4.Make(ctx, path, ext4.Options{
		Size: m.Size, Free: m.Free, Label: m.Label, UUID: m.UUID, Features: m.Features,
		InodeRatio: m.InodeRatio, Reserved: m.Reserved, Time: at,
	}, content)
}

// Actions is the table of the actions of this package by their kinds, of which
// a type may have several.
func Actions() engine.Actions {
	return engine.Actions{
		"boot-files/1":   func() engine.Action { return &bootFiles{} },
		"canonical/1":    func() engine.Action { return &canonical{} },
		"convert/3":      func() engine.Action { return &convert{} },
		"disk/2":         func() engine.Action { return &diskImage{} },
		"files/1":        func() engine.Action { return &takeFiles{} },
		"import-image/2": func() engine.Action { return &importImage{} },
		"make-btrfs/1":   func() engine.Action { return &btrfsImage{} },
		"make-image/3":   func() engine.Action { return &FileSystem{} },
		"overlay/2":      func() engine.Action { return &overlay{} },
		"partition/1":    func() engine.Action { return &extractPartition{} },
		"replace/1":      func() engine.Action { return &replace{} },
		"resize/2":       func() engine.Action { return &resize{} },
		"shrink/3":       func() engine.Action { return &shrink{} },
		"uki/1":          func() engine.Action { return &unifiedKernel{} },
		"verity/1":       func() engine.Action { return &verityTree{} },
	}
}
