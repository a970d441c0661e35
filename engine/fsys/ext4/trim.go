package ext4

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/internal/sparse"
)

// Trim makes holes in f where its file system has free blocks, and returns the
// bytes by which f gets smaller on the host. See fsys.Trim.
func Trim(ctx context.Context, f *os.File) (int64, error) {
	l, _, err := whole(f)
	if err != nil {
		return 0, err
	}
	before, err := allocated(f)
	if err != nil {
		return 0, err
	}
	if err := l.trim(ctx, f); err != nil {
		return 0, err
	}
	after, err := allocated(f)
	return max(before-after, 0), err
}

// allocated is the room a file has on the host, in bytes.
func allocated(f *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, err
	}
	return st.Blocks * 512, nil
}

// trim punches the free blocks of all groups.
func (l *layout) trim(ctx context.Context, f *os.File) error {
	switch {
	case l.incompat&incompatRecover != 0:
		return errors.New("the file system is not clean: its journal must be replayed first")
	case l.ro&roBigalloc != 0 || l.incompat&incompatMetaBG != 0:
		return errors.New("file systems with bigalloc or meta_bg cannot be trimmed")
	}
	for g := range l.groups {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		d, err := l.readGroup(f, g)
		if err != nil {
			return err
		}
		bitmap, err := bitmap(f, d)
		if err != nil {
			return err
		}
		if err := d.checkBitmap(bitmap); err != nil {
			return err
		}
		if err := l.punch(f, g, bitmap); err != nil {
			return err
		}
	}
	return nil
}

// punch makes holes of a group's free runs.
func (l *layout) punch(f *os.File, g uint32, bitmap []byte) error {
	n := l.groupBlocks(g)
	for at := uint32(0); at < n; {
		first := nextBit(bitmap, at, n, false)
		end := nextBit(bitmap, first, n, true)
		if first < end {
			off := int64(l.groupStart(g)+uint64(first)) * int64(l.blockSize)
			if err := sparse.Punch(f, off, int64(end-first)*int64(l.blockSize)); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

// checkBitmap compares a block bitmap with its checksum and its free count.
func (d *group) checkBitmap(bitmap []byte) error {
	var free uint32
	n := d.l.groupBlocks(d.num)
	for i := range n {
		if !testBit(bitmap, i) {
			free++
		}
	}
	if free != d.count(0xc, 0x2c) {
		return fmt.Errorf("block bitmap of group %d has %d free blocks, its descriptor %d: run e2fsck", d.num, free, d.count(0xc, 0x2c))
	}
	if d.flags()&groupBlockUninit != 0 || !d.l.csum() {
		return nil
	}
	want := crc(d.l.seed, bitmap[:d.l.blocksPerGroup/8])
	if len(d.raw) < 64 {
		want &= 0xffff
	}
	if d.count(0x18, 0x38) != want {
		return fmt.Errorf("block bitmap of group %d has a wrong checksum: run e2fsck", d.num)
	}
	return nil
}
