package fsys

func probeExt(w *window) (Info, error) {
	sb, err := w.at(extSuperAt, extSuperSize)
	if err != nil {
		return Info{}, err
	}
	l, err := parseExtSuper(sb)
	if err != nil || l.incompat&incompatJournalDev != 0 {
		return Info{}, nil
	}
	kind := "ext2"
	switch {
	case l.incompat&^uint32(0x6|incompatMetaBG) != 0 || l.ro&^uint32(0x7) != 0:
		kind = "ext4" // features that ext3 does not have
	case l.compat&compatJournal != 0:
		kind = "ext3"
	}
	return Info{Type: kind, Label: l.label(), UUID: uuidText(l.uuid), Size: l.size(),
		BlockSize: int64(l.blockSize), Free: clip(min(l.freeBlocks(), l.blocks), uint64(l.blockSize))}, nil
}

// leastExt4 is the smallest file, in bytes, of which mke2fs makes an ext4 with
// blocks of 4 KiB, without a journal and with the fewest inodes.
const leastExt4 = 220 << 10
