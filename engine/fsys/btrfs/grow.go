package btrfs

import (
	"errors"
	"io"
	"os"

	"b9.build/b9/engine/fsys/internal/volume"
)

// Grow makes the btrfs in the file, which has one device, as large as the file: the
// superblocks and the item of its device get the size, and what is new belongs to no
// chunk yet. Its log must not wait to be replayed. After an error the file may be
// damaged: work on a copy.
func Grow(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	opened, err := Open(volume.NewPages(io.NewSectionReader(f, 0, st.Size())))
	if err != nil {
		return err
	}
	v := opened.(*reader)
	super := make([]byte, blockSize)
	if _, err := f.ReadAt(super, superAt); err != nil {
		return err
	}
	total := uint64(st.Size()) &^ (uint64(le.Uint32(super[0x90:])) - 1)
	if le.Uint16(super[0xc4:]) != 0 {
		return volume.CantGrow(errors.New("its checksums are not CRC-32C: mount it and call btrfs filesystem resize max"))
	}
	if total <= le.Uint64(super[0x70:]) {
		return nil
	}
	if err := v.growDevice(f, rootBlock(le.Uint64(super[0x58:]), super[0xc7]), total, st.Size()); err != nil {
		return err
	}
	le.PutUint64(super[0x70:], total)
	le.PutUint64(super[0xc9+8:], total)
	return writeSupers(f, super, st.Size())
}

// growDevice writes the size into the item of the device, which is the first one of the
// tree of chunks, in every copy of its block.
func (v *reader) growDevice(f *os.File, at block, total uint64, size int64) error {
	for {
		b, err := v.readBlock(at)
		if err != nil {
			return err
		}
		if at.level > 0 {
			at = block{le.Uint64(b[header+keySize:]), at.level - 1, parseKey(b[header:]), at.to}
			continue
		}
		if k := parseKey(b[header:]); le.Uint32(b[96:]) == 0 || k.kind != typeDevice {
			return volume.Damaged("the tree of chunks has no device")
		}
		item := header + int(le.Uint32(b[header+17:]))
		if item+98 > len(b) {
			return volume.Damaged("an item lies outside of its block")
		}
		le.PutUint64(b[item+8:], total)
		seal(b)
		places, err := v.copies(at.at, size)
		for i := 0; i < len(places) && err == nil; i++ {
			_, err = f.WriteAt(b, places[i])
		}
		return err
	}
}
