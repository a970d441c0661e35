package ext4

import "b9.build/b9/engine/fsys/tree"

func Probe(w *tree.Window) (tree.Info, error) {
	sb, err := w.At(superAt, superSize)
	if err != nil {
		return tree.Info{}, err
	}
	l, err := parseExtSuper(sb)
	if err != nil || l.incompat&incompatJournalDev != 0 {
		return tree.Info{}, nil
	}
	kind := "ext2"
	switch {
	case l.incompat&^uint32(0x6|incompatMetaBG) != 0 || l.ro&^uint32(0x7) != 0:
		kind = "ext4" // features that ext3 does not have
	case l.compat&compatJournal != 0:
		kind = "ext3"
	}
	return tree.Info{Type: kind, Label: l.label(), UUID: tree.UUIDText(l.uuid), Size: l.size(),
		BlockSize: int64(l.blockSize), Free: tree.Clip(min(l.freeBlocks(), l.blocks), uint64(l.blockSize))}, nil
}

// Least is the smallest file, in bytes, of which mke2fs makes an ext4 with
// blocks of 4 KiB, without a journal and with the fewest inodes.
const Least = 220 << 10
