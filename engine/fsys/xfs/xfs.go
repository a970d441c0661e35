// Package xfs makes, reads and grows XFS. mkfs.xfs makes the empty file system, since
// it defines what one is; this package writes the content into it, straight into the
// image, as package ext4 does: its prototype files hold no times, no attributes, no
// hard links and no names with spaces, and a mount would give other bytes each time.
// It hides the format: allocation groups, B+trees, inodes, directories, attributes,
// checksums. It mounts nothing and replays no log.
//
//	Make, Options   a new file system, empty or filled; Least is the smallest
//	Probe, Open     a superblock recognised; an image's files read
//	Grow            one in a larger file
//	Tools           the programs that a result depends on
//
// Inside: geometry is the superblock, group an allocation group. A fill (fill.go)
// hands out space and inodes, and writes files, directories (dir.go) and attributes
// (attr.go) one after the other, so that everything lies in the order of the tree.
//
// The format is that of XFS Algorithms & Data Structures, 3rd edition, version 5 with
// checksums.
package xfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// Kind is the file system's name.
const Kind = "xfs"

// Least is the smallest size in bytes that mkfs.xfs makes.
const Least = 300 << 20

// MaxLabel is the length of a label in bytes.
const MaxLabel = 12

// Options describe a new XFS.
type Options struct {
	// Size of the file and the file system in bytes, of which whole blocks of 4096
	// count. 0 fits it to the content, with Free bytes left over.
	Size, Free int64
	// Label is at most MaxLabel bytes.
	Label string
	// UUID is derived from the options and from the content's names and attributes
	// where it is "".
	UUID string
	// Time of what the content does not bring a time for; at least one second
	// after 1970.
	Time time.Time
}

// Tools are the programs whose versions a new file system depends on.
func Tools() []tool.Program {
	return []tool.Program{{Name: "mkfs.xfs", VersionArgs: []string{"-V"}}}
}

// Make makes an XFS in a new file at path and fills it with content (nil: empty). The
// file is sparse. The same options and content give the same bytes: places, inode
// numbers and all times follow from names, attributes and data. Content's
// modification times are kept and stand for the other three times as well; blocks of
// zeros in files become holes.
//
// Errors: a label that is too long, a size below Least or one that does not hold the
// content (naming one that does), a time before 1901 or after 2486, a symbolic link of
// more than 1023 bytes, attributes that no Linux has or more than one block of them. After
// one path is what it was before.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	check := func() error { return o.check(content) }
	return tree.Make(ctx, path, Kind, content, check, func(t *tree.Tree) (func(*os.File) error, error) {
		if t == nil {
			t = &tree.Tree{Root: tree.NewDir(o.Time)}
			t.Root.Links = 2
		}
		o.fixUUID(t)
		w := &fill{ctx: ctx, o: o, tree: t}
		return w.make, w.plan()
	})
}

func (o *Options) check(content tree.Content) error {
	switch {
	case len(o.Label) > MaxLabel:
		return fmt.Errorf("label %q is %d bytes long, xfs holds %d", o.Label, len(o.Label), MaxLabel)
	case o.Size == 0 && content == nil && o.Free == 0:
		return errors.New("the size is missing")
	case o.Size != 0 && o.Size < Least:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(Least))
	case o.UUID != "":
		_, err := ident.Parse(o.UUID)
		return err
	}
	return nil
}

func (o *Options) fixUUID(t *tree.Tree) {
	if o.UUID != "" {
		return
	}
	h := ident.NewHash()
	h.Text("b9 xfs")
	h.Numbers(uint64(o.Size), uint64(o.Free))
	h.Text(o.Label)
	sum := t.Digest()
	h.Bytes(sum[:])
	o.UUID = ident.New(h.Sum()[:16])
}

// empty lets mkfs.xfs make the empty file system. What it would choose by its version
// or by the host's disk is said by settings.
func (o *Options) empty(ctx context.Context, f *os.File) error {
	if err := f.Truncate(o.Size); err != nil {
		return err
	}
	version, err := mkfsVersion(ctx)
	if err != nil {
		return err
	}
	args := append(settings(o.UUID, version), "-d", fmt.Sprintf("file,name=%s,size=%d,noalign", hosttool.ImagePath, o.Size/blockSize*blockSize))
	if o.Label != "" {
		args = append(args, "-L", o.Label)
	}
	_, err = hosttool.Command{Image: f}.Run(ctx, "mkfs.xfs", args...)
	return err
}

// release is a version of xfsprogs, such as {6, 10}.
type release [2]int

func (r release) since(major, minor int) bool { return cmp.Or(r[0]-major, r[1]-minor) >= 0 }

// mkfsVersion asks mkfs.xfs, which says "mkfs.xfs version 6.1.0". One that says something
// else is taken for an old one.
func mkfsVersion(ctx context.Context) (release, error) {
	out, err := hosttool.Command{}.Run(ctx, "mkfs.xfs", Tools()[0].VersionArgs...)
	return parseVersion(out), err
}

func parseVersion(text string) (r release) {
	if _, number, ok := strings.Cut(text, "version "); ok {
		_, _ = fmt.Sscanf(number, "%d.%d", &r[0], &r[1])
	}
	return r
}

// settings switches off what b9 does not write. An option is given to the versions that
// know it: to others it is an error, and they make no such feature.
func settings(uuid string, version release) []string {
	inode, naming := "size=512,sparse=1", "size=4096,ftype=1"
	if version.since(5, 19) {
		inode += ",nrext64=0"
	}
	if version.since(6, 10) {
		inode, naming = inode+",exchange=0", naming+",parent=0"
	}
	return []string{
		"-q", "-f", "-K", "-b", "size=4096", "-s", "size=512", "-n", naming, "-i", inode,
		"-m", "crc=1,finobt=1,rmapbt=0,reflink=1,bigtime=1,inobtcount=1,uuid=" + uuid, "-l", "internal=1,sunit=8",
	}
}

// Probe recognises struct xfs_dsb at byte 0.
func Probe(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 0, 512)
	if err != nil || string(b[:4]) != "XFSB" {
		return tree.Info{}, err
	}
	bs := uint64(be.Uint32(b[4:]))
	if bs < 512 || bs > 65536 || bs&(bs-1) != 0 {
		return tree.Info{}, nil
	}
	return tree.Info{Type: Kind, Label: volume.Text(b[108:120]), UUID: ident.Text(b[32:]), BlockSize: int64(bs),
		Sector: int64(be.Uint16(b[102:])),
		Size:   volume.Bytes(be.Uint64(b[8:]), bs), Free: volume.Bytes(be.Uint64(b[144:]), bs)}, nil
}
