// Package btrfs makes, reads and grows btrfs on one device, in user space: mkfs.btrfs
// takes inode numbers and times of change from the host, draws UUIDs, and knows
// subvolumes only since version 6.12; a mount would give other bytes each time. All
// trees are written at once, from sorted items. It hides the format: chunks, trees,
// items, checksums. It mounts nothing and runs no program.
//
//	Make, Options   a new file system, empty or filled, with subvolumes; Least is the smallest
//	Probe, Open     a superblock recognised; an image's files read
//	Grow            one in a larger file
//
// Inside: collect.go turns a tree into items of subvolumes, data.go writes files' bytes,
// space.go hands out the device in chunks, forest.go packs items into the blocks of all
// trees, which describe each other, and write.go writes these.
//
// The format is that of the kernel's Documentation and its uapi header btrfs_tree.h,
// with the features that mkfs.btrfs 6.2 sets by itself: extended references, skinny
// metadata, no holes, a free space tree; metadata is kept twice, data once, checksums are
// CRC-32C.
package btrfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
)

// Kind is the file system's name.
const Kind = "btrfs"

// Least is the smallest size in bytes: that of mkfs.btrfs.
const Least = 109 << 20

// MaxLabel is the length of a label in bytes.
const MaxLabel = 255

// Options describe a new btrfs.
type Options struct {
	// Size of the file and the file system in bytes, of which whole blocks of 4096
	// count. 0 fits it to the content, with Free bytes left over.
	Size, Free int64
	// Label is at most MaxLabel bytes.
	Label string
	// UUID is derived from the options and from the content's names and attributes
	// where it is "". Those of device and subvolumes follow from it.
	UUID string
	// Subvolumes are directories of the content, by their paths, that become
	// subvolumes; one that is missing is made. The value says of which type it is, as
	// mkfs.btrfs --subvol does: "rw", "ro", "default" or "default-ro". The default one is
	// what a mount without subvol= shows.
	Subvolumes map[string]string
	// Time of what the content does not bring a time for; at least one second
	// after 1970.
	Time time.Time
}

// types are those that a subvolume can have.
func types() []string { return []string{"rw", "ro", "default", "default-ro"} }

// Make makes a btrfs in a new file at path and fills it with content (nil: empty). The
// file is sparse. The same options and content give the same bytes: places, inode
// numbers, UUIDs and all times follow from names, attributes and data. Content's
// modification times are kept and stand for the other three times as well; blocks of
// zeros in files become holes. A file with names in several subvolumes becomes a
// file in each.
//
// Errors: a label that is too long, a size below Least or one that does not hold the
// content (naming one that does), subvolumes that are no directories, attributes of more
// than 16,000 bytes, hundreds of names of one file in a directory, dozens of names or
// attributes that have one CRC-32C. After one path is what
// it was before.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	check := func() error { return o.check(content) }
	return tree.Make(ctx, path, Kind, content, check, func(t *tree.Tree) (func(*os.File) error, error) {
		if t == nil {
			t = &tree.Tree{Root: tree.NewDir(o.Time)}
		}
		o.fixUUID(t)
		w := &writer{ctx: ctx, o: o}
		return w.make, w.collect(t)
	})
}

func (o *Options) check(content tree.Content) error {
	switch {
	case len(o.Label) > MaxLabel:
		return fmt.Errorf("label %q is %d bytes long, btrfs holds %d", o.Label, len(o.Label), MaxLabel)
	case o.Size == 0 && content == nil && o.Free == 0:
		return errors.New("the size is missing")
	case o.Size != 0 && o.Size < Least:
		return fmt.Errorf("size %s is below the least, %s", size.About(o.Size), size.About(Least))
	case o.UUID != "":
		if _, err := ident.Parse(o.UUID); err != nil {
			return err
		}
	}
	return CheckSubvolumes(o.Subvolumes)
}

// CheckSubvolumes refuses paths and types that Options.Subvolumes can't have.
func CheckSubvolumes(list map[string]string) error {
	defaults := 0
	for _, p := range slices.Sorted(maps.Keys(list)) {
		if p == "" || p != strings.Trim(path.Clean("/"+p), "/") {
			return fmt.Errorf("subvolume %q is no path such as home or var/log", p)
		}
		if err := checkNames(p); err != nil {
			return fmt.Errorf("subvolume %.60q: %w", p, err)
		}
		if !slices.Contains(types(), list[p]) {
			return fmt.Errorf("subvolume %s: unknown type %q (have %s)", p, list[p], strings.Join(types(), ", "))
		}
		if strings.HasPrefix(list[p], "default") {
			defaults++
		}
	}
	if defaults > 1 {
		return errors.New("only one subvolume can be the default")
	}
	return nil
}

// checkNames refuses a path with names that no directory has.
func checkNames(p string) error {
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case strings.Contains(name, "\x00"):
			return errors.New("a name has a NUL byte")
		case len(name) > tree.MaxName:
			return fmt.Errorf("a name is %d bytes long, btrfs holds %d", len(name), tree.MaxName)
		}
	}
	if len(p) > tree.MaxPath {
		return fmt.Errorf("the path is longer than %d bytes", tree.MaxPath)
	}
	return nil
}

func (o *Options) fixUUID(t *tree.Tree) {
	if o.UUID != "" {
		return
	}
	h := ident.NewHash()
	h.Text("b9 btrfs")
	h.Numbers(uint64(o.Size), uint64(o.Free))
	h.Text(o.Label)
	for _, p := range slices.Sorted(maps.Keys(o.Subvolumes)) {
		h.Text(p)
		h.Text(o.Subvolumes[p])
	}
	sum := t.Digest()
	h.Bytes(sum[:])
	o.UUID = ident.New(h.Sum()[:16])
}

// Probe recognises struct btrfs_super_block at byte 65536.
func Probe(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, superAt, 1024)
	if err != nil || string(b[64:72]) != magic {
		return tree.Info{}, err
	}
	total, used := le.Uint64(b[0x70:]), le.Uint64(b[0x78:])
	return tree.Info{Type: Kind, Label: volume.Text(b[0x12b:0x22b]), UUID: ident.Text(b[0x20:]),
		Size: volume.Bytes(total, 1), BlockSize: int64(le.Uint32(b[0x90:])), Free: volume.Bytes(total-min(used, total), 1)}, nil
}
