package compare

import (
	"bytes"
	"encoding/binary"
	"io"
)

// XFS returns where a mount of an xfs writes although nothing in it changes: the
// first superblock and the log. ok is false where the superblocks of a and b tell of
// more than mounts. A log that waits to be replayed shows in the blocks that it is
// replayed to.
func XFS(a, b io.ReaderAt) (traces Runs, ok bool, err error) {
	const superSize = 512
	var sb [2][]byte
	for i, r := range []io.ReaderAt{a, b} {
		sb[i] = make([]byte, superSize)
		if _, err := r.ReadAt(sb[i], 0); err != nil {
			return nil, false, whole(err)
		}
		clear(sb[i][224:228]) // checksum
		clear(sb[i][240:248]) // number of the log record that wrote it last
		for _, at := range []int{160, 168, 232} {
			// Inodes of quotas: a kernel without quotas turns none (0) into none (-1).
			if binary.BigEndian.Uint64(sb[i][at:]) == 0 {
				binary.BigEndian.PutUint64(sb[i][at:], ^uint64(0))
			}
		}
	}
	if !bytes.Equal(sb[0], sb[1]) {
		return nil, false, nil
	}
	first := Run{0, superSize}
	log, ok := xfsLog(sb[0])
	return Sorted(first, log), ok, nil
}

// xfsLog is where a superblock says that the log lies: nowhere, where it is on
// another device.
func xfsLog(sb []byte) (Run, bool) {
	be := binary.BigEndian
	size, groupBlocks, blocks := int64(be.Uint32(sb[4:])), int64(be.Uint32(sb[84:])), int64(be.Uint32(sb[96:]))
	start, shift, total := be.Uint64(sb[48:]), sb[124], be.Uint64(sb[8:])
	if start == 0 {
		return Run{}, true
	}
	if size < 512 || size > 65536 || shift == 0 || shift > 32 || total > 1<<44 {
		return Run{}, false
	}
	group, block := int64(start>>shift), int64(start&(1<<shift-1))
	if group > int64(total) || groupBlocks == 0 || group*groupBlocks+block+blocks > int64(total) {
		return Run{}, false
	}
	from := (group*groupBlocks + block) * size
	return Run{from, from + blocks*size}, true
}
