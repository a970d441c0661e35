package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/internal/sparse"
)

// Canonical lays the file system in src out anew, in a file at dst. See
// fsys.Canonical.
func Canonical(ctx context.Context, src *os.File, dst string, at time.Time) error {
	l, size, err := whole(src)
	if err != nil {
		return err
	}
	in := io.NewSectionReader(src, 0, size)
	v, err := Open(volume.NewPages(in))
	if err != nil {
		return err
	}
	o, err := l.options(v.(*reader))
	if err != nil {
		return err
	}
	if err := zerosFrom(ctx, src, l.size(), size); err != nil {
		return err
	}
	o.Time, o.ClampTimes, o.settings = at, true, l.sb
	if err := Make(ctx, dst, o, tree.FromReader(volume.New(v, "ext4"))); err != nil {
		return err
	}
	return os.Truncate(dst, size)
}

// feature is a feature bit in one of the superblock's three words of them, by its
// name to mke2fs.
type feature struct {
	word int // offset in the superblock
	bit  uint32
	name string
}

// features are those of a file system that can be laid out anew. What is not here
// asks for structures, or for bookkeeping, that fill does not know.
func features() []feature {
	const compat, incompat, ro = 0x5c, 0x60, 0x64
	return []feature{
		{compat, compatJournal, "has_journal"}, {compat, 0x8, "ext_attr"}, {compat, 0x10, "resize_inode"}, {compat, 0x20, "dir_index"},
		{compat, compatSparseSuper2, "sparse_super2"}, {compat, 0x400, "fast_commit"}, {compat, 0x1000, "orphan_file"},
		{incompat, 0x2, "filetype"}, {incompat, incompatExtents, "extent"}, {incompat, incompat64Bit, "64bit"}, {incompat, 0x200, "flex_bg"},
		{incompat, incompatCsumSeed, "metadata_csum_seed"}, {incompat, 0x4000, "large_dir"}, {incompat, 0x8000, "inline_data"},
		{ro, roSparseSuper, "sparse_super"}, {ro, roLargeFile, "large_file"}, {ro, 0x8, "huge_file"}, {ro, roGdtCsum, "uninit_bg"},
		{ro, roDirNlink, "dir_nlink"}, {ro, 0x40, "extra_isize"}, {ro, roMetadataCsum, "metadata_csum"},
	}
}

// passing are the features that tell of a state, or that the kernel sets when the
// content asks for it: recover and orphan_present go, ext_attr and large_file are
// always there.
func passing() map[int]uint32 { return map[int]uint32{0x60: incompatRecover, 0x64: 0x10000} }

// options describes the file system for Make: what was chosen when it was made and
// since, and not where in it things lie.
func (l *layout) options(v *reader) (Options, error) {
	names := []string{"none", "ext_attr", "large_file"}
	left := map[int]uint32{0x5c: l.compat &^ 0x8, 0x60: l.incompat, 0x64: l.ro &^ roLargeFile}
	for word, bits := range passing() {
		left[word] &^= bits
	}
	for _, f := range features() {
		if left[f.word]&f.bit != 0 {
			left[f.word] &^= f.bit
			names = append(names, f.name)
		}
	}
	if left[0x5c]|left[0x60]|left[0x64] != 0 || l.firstInode != 11 {
		return Options{}, fmt.Errorf("the file system has features with which it can't be laid out anew (compatible %#x, incompatible %#x, read-only %#x)",
			left[0x5c], left[0x60], left[0x64])
	}
	o := Options{
		Size: l.size(), Label: l.label(), UUID: ident.Text(l.uuid), HashSeed: ident.Text(l.sb[0xec:]), Features: names,
		Inodes: int64(l.inodes), InodeSize: l.inodeSize, BlockSize: l.blockSize,
	}
	if n := l.reservedBlocks(); n > 0 {
		o.Reserved = min(100*(float64(n)+0.5)/float64(l.blocks), 50) // mke2fs rounds down
	}
	if l.compat&compatJournal == 0 {
		return o, nil
	}
	num := binary.LittleEndian.Uint32(l.sb[0xe0:])
	if num == 0 {
		return o, errors.New("the file system's journal lies on another device")
	}
	n, err := v.inode(uint64(num))
	if err != nil {
		return o, fmt.Errorf("journal: %w", err)
	}
	o.Journal = n.Size
	return o, nil
}

// zerosFrom refuses data behind the end of the file system, which belongs to nothing.
func zerosFrom(ctx context.Context, f *os.File, from, to int64) error {
	buf := make([]byte, 1<<20)
	for from < to {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		at, err := sparse.Data(f, from, to)
		if err != nil || at >= to {
			return err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
		if err != nil {
			return err
		}
		if !sparse.IsZero(buf[:n]) {
			return fmt.Errorf("the image has data behind its file system, which ends at byte %d", from)
		}
		from = at + int64(n)
	}
	return nil
}

// copySettings gives the new file system what tune2fs(8) sets and mke2fs does not:
// limits and intervals of checks, what an error does, mount options, the reserved
// blocks' owner, the geometry of a RAID.
func (l *layout) copySettings(sb []byte) {
	for _, s := range [][2]int{{0x36, 0x38}, {0x3c, 0x3e}, {0x44, 0x48}, {0x50, 0x54}, {0x100, 0x104}, {0x164, 0x166}, {0x170, 0x174}, {0x200, 0x240}} {
		copy(l.sb[s[0]:s[1]], sb[s[0]:s[1]])
	}
}

// journalArg asks mke2fs for a journal of so many bytes.
func (o *Options) journalArg() []string {
	if o.Journal == 0 {
		return nil
	}
	const mib = 1 << 20
	least := (1024*int64(o.BlockSize) + mib - 1) / mib
	return []string{"-J", "size=" + strconv.FormatInt(max(o.Journal/mib, least), 10)}
}

// isSwap reports whether a regular file looks as mkswap(8) leaves it. The kernel
// swaps to no file with holes.
func isSwap(n *tree.Inode) bool {
	const page = 4096
	if n.Size < 10*page || n.Size%page != 0 || n.Mode&0o077 != 0 {
		return false
	}
	r, err := n.Open()
	if err != nil {
		return false // writing it will tell
	}
	defer r.Close()
	head := make([]byte, page)
	_, err = io.ReadFull(r, head)
	return err == nil && strings.HasSuffix(string(head), "SWAPSPACE2")
}
