package mkfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf16"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// f2fsBlock is the size of its blocks in bytes, of which segments have 512.
const f2fsBlock = 4096

// checkF2FS refuses what sload.f2fs leaves out without a word.
func (m *maker) checkF2FS() error {
	if m.tree == nil {
		return nil
	}
	return m.tree.Walk(func(p string, n *tree.Inode) error {
		switch {
		case p == "" && (n.Mode&0o7777 != 0o755):
			return errors.New("the root of a f2fs has mode 0755: give the content another one with tree(modes = ...)")
		case !n.IsDir() && !n.IsRegular() && !n.IsLink():
			return fmt.Errorf("%s is a device, pipe or socket, which sload.f2fs does not write: leave it out of the content", p)
		case len(n.Xattrs) > 0:
			return fmt.Errorf("%s has the attribute %s, and sload.f2fs writes none: take an ext4, or remove it", p, n.Xattrs[0].Name)
		}
		return nil
	})
}

// f2fs makes the empty file system and lets sload.f2fs fill it, which sorts what it
// finds.
func (m *maker) f2fs(f *os.File) error {
	if m.o.Size == 0 {
		m.o.Size = m.neededF2FS()
	}
	if m.tree == nil || len(m.tree.Root.Entries) == 0 {
		return errors.Join(m.emptyF2FS(f), forgetKernel(f))
	}
	return m.staged(func(dir string) error {
		if err := m.emptyF2FS(f); err != nil {
			return err
		}
		err := m.run(f, nil, "sload.f2fs", "-P", "-f", dir, hosttool.ImagePath)
		var refused *tool.Failure
		if errors.As(err, &refused) && m.o.Size < m.neededF2FS() {
			return fmt.Errorf("the content does not fit into %s: %s are enough", size.About(m.o.Size), size.Bytes(m.neededF2FS()))
		}
		return errors.Join(err, forgetKernel(f))
	})
}

// emptyF2FS makes it in the file, which becomes as long as it is.
func (m *maker) emptyF2FS(f *os.File) error {
	if err := f.Truncate(m.o.Size); err != nil {
		return err
	}
	owner := "0:0"
	if m.tree != nil {
		owner = fmt.Sprintf("%d:%d", m.tree.Root.UID, m.tree.Root.GID)
	}
	args := []string{"-q", "-f", "-r", "-t", "0", "-T", fmt.Sprint(tree.FixedTime(m.o.Time)), "-R", owner, "-U", m.o.UUID}
	if m.o.Label != "" {
		args = append(args, "-l", m.o.Label)
	}
	return m.run(f, nil, "mkfs.f2fs", append(args, hosttool.ImagePath)...)
}

// forgetKernel takes out of both superblocks what the kernel of this machine is called,
// in the fields version and init_version, of 256 bytes each.
func forgetKernel(f *os.File) error {
	name := make([]byte, 512)
	copy(name, "b9")
	copy(name[256:], "b9")
	_, first := f.WriteAt(name, 1024+1668)
	_, second := f.WriteAt(name, f2fsBlock+1024+1668)
	return errors.Join(first, second)
}

// neededF2FS is a size that holds the content: its blocks, a node for each inode and
// for every thousand further blocks of a file, a tenth that f2fs keeps to clean
// segments in, and as much as an empty one has.
func (m *maker) neededF2FS() int64 {
	blocks := int64(0)
	_ = m.tree.Walk(func(_ string, n *tree.Inode) error {
		data := (n.Size + f2fsBlock - 1) / f2fsBlock
		if n.IsDir() {
			data = 4 + int64(len(n.Entries))/50
		}
		blocks += 1 + data + data/900
		return nil
	})
	need := (blocks*f2fsBlock+m.o.Free)*115/100 + leastFilled
	return (need + 1<<21 - 1) &^ (1<<21 - 1)
}

// ProbeF2FS recognises struct f2fs_super_block at byte 1024.
func ProbeF2FS(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 1024, 2048)
	le := binary.LittleEndian
	if err != nil || le.Uint32(b) != 0xF2F52010 || le.Uint32(b[16:]) != 12 {
		return tree.Info{}, err
	}
	var label []uint16
	for at := 124; at < 124+2*maxLabel; at += 2 {
		if c := le.Uint16(b[at:]); c != 0 {
			label = append(label, c)
			continue
		}
		break
	}
	return tree.Info{Type: F2FS, UUID: ident.Text(b[108:]), Label: string(utf16.Decode(label)), BlockSize: f2fsBlock,
		Size: volume.Bytes(le.Uint64(b[36:]), f2fsBlock), Free: -1}, nil
}

// Grow makes the f2fs in the file as large as the file, which it does not fill, and
// checks what has become of it. After an error the file is damaged: work on a copy.
func Grow(ctx context.Context, f *os.File) error {
	if _, err := (hosttool.Command{Image: f}).Run(ctx, "resize.f2fs", hosttool.ImagePath); err != nil {
		return err
	}
	if err := forgetKernel(f); err != nil {
		return err
	}
	_, err := hosttool.Command{Image: f, Most: 1 << 20}.Run(ctx, "fsck.f2fs", "--dry-run", hosttool.ImagePath)
	return err
}
