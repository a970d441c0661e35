// Package ext4 makes, reads, resizes and trims ext2, ext3 and ext4. mke2fs makes
// the empty file system, since it defines what one is; this package writes the
// content into it, straight into the image. It hides the on-disk format: the
// superblock and group descriptors, bitmaps, inodes, extents and indirect blocks,
// directories, attributes, checksums and the journal. It mounts nothing, writes
// into no file system that has been used, and replays a journal only in memory.
//
//	Make, Options          a new file system, empty or filled; Least is the smallest
//	Probe, Open            a superblock recognised; an image's files read
//	Resize, Shrink, Trim   a file system together with its file
//	Settle, Canonical      one without traces of its mounts; one laid out anew
//	Traces                 where mounts write although nothing changes
//	Check                  what e2fsck would repair
//	Tools                  the programs of e2fsprogs that a result depends on
//
// Inside: layout and group are the superblock and a descriptor. A fill writes a
// tree (fill.go): allocator hands out blocks, mapper maps a file's extents, dirWriter
// and inodeTable lay out directories and inodes. A reader reads (read.go): run.go
// finds a file's blocks, journal.go reads past a journal that waits to be replayed.
//
// The format is that of the kernel's Documentation/filesystems/ext4, journals of
// its journal.rst; the features are those of e2fsprogs 1.47.
package ext4

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// Options describe a new ext4 file system. The zero value of each field
// but Size is usable.
type Options struct {
	// Size of the file and the file system in bytes. 0 fits it to the content,
	// with Free bytes left over.
	Size int64
	Free int64
	// Label is at most 16 bytes.
	Label string
	// UUID and HashSeed are derived from the options and from the content's
	// names and attributes when empty.
	UUID     string
	HashSeed string
	// Features as mke2fs -O takes them, on top of has_journal, extent,
	// huge_file, flex_bg, metadata_csum, 64bit, dir_nlink and extra_isize:
	// "^64bit" takes one away.
	Features []string
	// InodeRatio is bytes per inode (default 16384), Inodes their number. With
	// neither there are always enough for the content.
	InodeRatio int64
	Inodes     int64
	// Reserved is the share of blocks kept for root, in percent (0 to 50).
	Reserved float64
	// BlockSize in bytes: 1024, 2048 or 4096 (default).
	BlockSize int
	// InodeSize in bytes: a power of two from 128 to BlockSize (default 256).
	InodeSize int
	// Journal is the length of the journal in bytes, of which whole MiB count; 0 is
	// what mke2fs chooses for the size. It is for file systems that have one.
	Journal int64
	// Time of what the content does not bring a time for; at least one second
	// after 1970.
	Time time.Time
	// ClampTimes replaces every later time in the content by Time.
	ClampTimes bool

	settings []byte // a superblock whose settings the new one gets; nil: mke2fs's
}

// maxLabel is the length of an ext4 label in bytes.
const maxLabel = 16

// config replaces the host's mke2fs.conf, so that the result depends on the
// options alone. The features are those of e2fsprogs 1.47 as distributed by
// Debian: every boot loader and kernel since 2016 reads them.
const config = `[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	default_mntopts = acl,user_xattr
	enable_periodic_fsck = 0
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
`

// Make makes an ext4 file system in a new file at path and fills it with
// content (nil: empty but for lost+found). The file is sparse. The same options
// and content give the same bytes: layout, inode numbers and all times follow
// from names, attributes and data. Content's modification times are kept and
// stand for the other three times of a file as well; a block of zeros in a file
// becomes a hole.
//
// Errors: a label that is too long, a feature that mke2fs refuses (with its
// words), a size that does not hold the content (naming the size that does). After
// one path is what it was before. The features bigalloc, quota, meta_bg and
// journal_dev are refused together with content.
func Make(ctx context.Context, path string, o Options, content tree.Content) error {
	check := func() error { return o.check(content) }
	return tree.Make(ctx, path, "ext4", content, check, func(t *tree.Tree) (func(*os.File) error, error) {
		m := maker{ctx: ctx, o: o, tree: t}
		return m.make, nil
	})
}

func (o *Options) check(content tree.Content) error {
	switch {
	case len(o.Label) > maxLabel:
		return fmt.Errorf("label %q is %d bytes long, ext4 holds %d", o.Label, len(o.Label), maxLabel)
	case o.Size < 0 || o.Free < 0 || o.Inodes < 0 || o.InodeRatio < 0 || o.Journal < 0:
		return errors.New("a size or count is negative")
	case o.Size == 0 && content == nil && o.Free == 0:
		return errors.New("the size is missing")
	case o.Reserved < 0 || o.Reserved > 50:
		return fmt.Errorf("reserved space of %g percent is not between 0 and 50", o.Reserved)
	}
	switch o.BlockSize {
	case 0:
		o.BlockSize = 4096
	case 1024, 2048, 4096:
	default:
		return fmt.Errorf("block size %d is not 1024, 2048 or 4096", o.BlockSize)
	}
	if o.InodeSize != 0 && (o.InodeSize < 128 || o.InodeSize > o.BlockSize || o.InodeSize&(o.InodeSize-1) != 0) {
		return fmt.Errorf("inode size %d is no power of two from 128 to %d", o.InodeSize, o.BlockSize)
	}
	for _, id := range []string{o.UUID, o.HashSeed} {
		if _, err := ident.Parse(id); id != "" && err != nil {
			return err
		}
	}
	return nil
}

type maker struct {
	ctx    context.Context
	f      *os.File
	o      Options
	tree   *tree.Tree // nil: no content
	need   needs
	config *os.File
	least  int64 // bytes, what fit has found
}

func (m *maker) make(f *os.File) error {
	m.f = f
	if m.tree != nil && m.o.ClampTimes {
		m.tree.Clamp(tree.FixedTime(m.o.Time))
	}
	m.fixIDs()
	if err := m.openConfig(); err != nil {
		return err
	}
	defer m.config.Close()
	if err := m.format(); err != nil {
		return err
	}
	if m.tree == nil {
		return nil
	}
	err := fillImage(m.ctx, m.f, m.tree, &m.o)
	if errors.Is(err, errFull) {
		return m.tooSmall()
	}
	return err
}

// tooSmall names the size that would do.
func (m *maker) tooSmall() error {
	if err := m.measure(); err != nil {
		return err
	}
	least, err := m.fit()
	if err != nil {
		return err
	}
	return fmt.Errorf("the content does not fit into %s: it needs %s", size.About(m.o.Size), size.About(least))
}

// fixIDs derives what identifies the file system, so that two different ones
// in a machine do not share a UUID and two equal builds do.
func (m *maker) fixIDs() {
	h := ident.NewHash()
	h.Text("b9 ext4")
	h.Numbers(uint64(m.o.Size), uint64(m.o.Free), uint64(m.o.BlockSize), uint64(m.o.Inodes), uint64(m.o.InodeRatio))
	h.Text(m.o.Label)
	h.Text(strings.Join(m.o.Features, ","))
	if m.tree != nil {
		sum := m.tree.Digest()
		h.Bytes(sum[:])
	}
	sum := h.Sum()
	if m.o.UUID == "" {
		m.o.UUID = ident.New(sum[:16])
	}
	if m.o.HashSeed == "" {
		m.o.HashSeed = ident.New(sum[16:])
	}
}

// openConfig puts the configuration into memory, where no crash leaves it behind.
func (m *maker) openConfig() error {
	fd, err := unix.MemfdCreate("mke2fs.conf", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("memory for mke2fs.conf: %w", err)
	}
	m.config = os.NewFile(uintptr(fd), "mke2fs.conf")
	_, err = m.config.WriteString(config)
	return err
}

// format makes the empty file system, large enough for the content when its
// size was left open.
func (m *maker) format() error {
	if m.tree != nil {
		m.need.inodes = inodesOf(m.tree)
	}
	if m.o.Size > 0 {
		err := m.mke2fs(m.o.Size)
		var refused *tool.Failure
		if errors.As(err, &refused) && m.need.inodes > 0 {
			return m.refused(err)
		}
		return err
	}
	if err := m.measure(); err != nil {
		return err
	}
	_, err := m.fit()
	return err
}

// refused tells a size that holds the inodes, if what mke2fs refuses is the size.
func (m *maker) refused(cause error) error {
	if err := m.tooSmall(); m.o.Size < m.least {
		return err
	}
	return cause
}

func (m *maker) measure() error {
	var err error
	if m.tree != nil {
		m.need, err = needsOf(m.ctx, m.tree, int64(m.o.BlockSize))
	}
	return err
}

// fit makes empty file systems until one has the free blocks and inodes that the
// content needs: how many a size loses to tables and the journal only mke2fs knows.
// It also refuses a size that does not hold the inodes themselves.
func (m *maker) fit() (int64, error) {
	bs, inodeSize := int64(m.o.BlockSize), int64(cmp.Or(m.o.InodeSize, 256))
	want := m.need.blocks + (m.o.Free+bs-1)/bs
	size, tables := (want+64)*bs, m.enough()*inodeSize
	for try := range 24 {
		err := m.mke2fs(size)
		var refused *tool.Failure
		if errors.As(err, &refused) && try < 8 { // too small for its own tables, perhaps
			size += max(tables, size/4) / bs * bs
			tables = 0
			continue
		}
		if err != nil {
			return 0, err
		}
		l, err := readLayout(m.f)
		if err != nil {
			return 0, err
		}
		blocks := want + int64(l.reservedBlocks()) - int64(l.freeBlocks())
		inodes := m.need.inodes - int64(l.freeInodes())
		if m.o.Inodes > 0 {
			inodes = 0 // so it was asked for
		}
		if blocks <= 0 && inodes <= 0 {
			m.least = size
			return size, nil
		}
		blocks = max(blocks, inodes*max(m.o.InodeRatio, 16384)/bs)
		size += (blocks + blocks/32 + 4) * bs
	}
	return 0, errors.New("no size found that holds the content")
}

// mke2fs makes an empty file system of size bytes in the emptied file.
func (m *maker) mke2fs(size int64) error {
	if err := errors.Join(m.f.Truncate(0), m.f.Truncate(size)); err != nil {
		return err
	}
	args := []string{"-q", "-F", "-t", "ext4", "-T", "default", "-b", strconv.Itoa(m.o.BlockSize),
		"-m", strconv.FormatFloat(m.o.Reserved, 'f', -1, 64), "-U", m.o.UUID,
		"-E", "lazy_itable_init=0,lazy_journal_init=0,assume_storage_prezeroed=1,nodiscard,root_owner=0:0,hash_seed=" + m.o.HashSeed}
	if m.o.Label != "" {
		args = append(args, "-L", m.o.Label)
	}
	if len(m.o.Features) > 0 {
		args = append(args, "-O", strings.Join(m.o.Features, ","))
	}
	if m.o.InodeSize > 0 {
		args = append(args, "-I", strconv.Itoa(m.o.InodeSize))
	}
	args = append(args, m.o.journalArg()...)
	args = append(args, m.inodeArgs(size)...)
	args = append(args, hosttool.ImagePath, strconv.FormatInt(size/int64(m.o.BlockSize), 10))
	env := []string{"MKE2FS_CONFIG=" + hosttool.ExtraPath, "MKE2FS_SYNC=0", fakeTime(tree.FixedTime(m.o.Time))}
	_, err := hosttool.Command{Image: m.f, Extra: []*os.File{m.config}, Env: env}.Run(m.ctx, "mke2fs", args...)
	return err
}

// inodeArgs asks for enough inodes unless the options say how many.
func (m *maker) inodeArgs(size int64) []string {
	switch {
	case m.o.Inodes > 0:
		return []string{"-N", strconv.FormatInt(m.o.Inodes, 10)}
	case m.o.InodeRatio > 0:
		return []string{"-i", strconv.FormatInt(m.o.InodeRatio, 10)}
	}
	if size/16384 >= m.enough() {
		return nil
	}
	return []string{"-N", strconv.FormatInt(m.enough(), 10)}
}

// enough is the number of inodes for the content and a few more.
func (m *maker) enough() int64 { return m.need.inodes + m.need.inodes/8 + 32 }

// fakeTime gives e2fsprogs' library a time as the present one.
func fakeTime(sec int64) string { return "E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(sec, 10) }
