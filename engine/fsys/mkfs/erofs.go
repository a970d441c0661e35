package mkfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"

	"b9.build/b9/engine/fsys/internal/hosttool"
	"b9.build/b9/engine/fsys/internal/ident"
	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// erofs lets mkfs.erofs write the file system. The program sorts what it finds, and
// numbers inodes itself. It notes one time in the superblock, which it takes from
// SOURCE_DATE_EPOCH; no later time in the content may stay, so that it is the latest.
func (m *maker) erofs(f *os.File) error {
	latest := tree.FixedTime(m.o.Time)
	err := m.tree.Walk(func(p string, n *tree.Inode) error {
		latest = max(latest, n.Sec+1)
		if n.Sec < 0 {
			return fmt.Errorf("%s: its time is before 1970, which erofs does not hold", p)
		}
		if len(path.Base(p)) >= tree.MaxName {
			return fmt.Errorf("%.60s...: its name has %d bytes, of which mkfs.erofs loses the last", p, tree.MaxName)
		}
		return nil
	})
	if err != nil {
		return err
	}
	args := []string{"-U", m.o.UUID}
	if m.o.Compress != "" {
		args = append(args, "-z"+m.o.Compress)
	}
	return m.staged(func(dir string) error {
		return m.run(f, []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", latest)}, "mkfs.erofs", append(args, "--quiet", hosttool.ImagePath, dir)...)
	})
}

// ProbeEROFS recognises struct erofs_super_block at byte 1024.
func ProbeEROFS(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 1024, 128)
	le := binary.LittleEndian
	if err != nil || le.Uint32(b) != 0xE0F5E1E2 {
		return tree.Info{}, err
	}
	bits := b[12]
	if bits < 9 || bits > 16 {
		return tree.Info{}, nil
	}
	return tree.Info{Type: EROFS, UUID: ident.Text(b[48:]), Label: volume.Text(b[64:80]), BlockSize: 1 << bits,
		Size: volume.Bytes(uint64(le.Uint32(b[36:])), 1<<bits)}, nil
}
