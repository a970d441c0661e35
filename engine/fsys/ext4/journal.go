package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"b9.build/b9/engine/fsys/internal/volume"
)

// The journal is JBD2's, as the kernel's Documentation/filesystems/ext4/journal.rst
// describes it. All numbers are big endian.

const (
	journalMagic      = 0xc03b3998
	journal64Bit      = 0x2
	journalCsumV2     = 0x8
	journalCsumV3     = 0x10
	journalUnreadable = ^uint32(0x1 | journal64Bit | 0x4 | journalCsumV2 | journalCsumV3)
	journalMaxBlocks  = 1 << 21
)

// journal is a pass over the journal's transactions.
type journal struct {
	v        *reader
	x        *inode
	f        *volume.Extents
	first    uint32 // block of the journal after its superblock
	length   uint32 // blocks
	incompat uint32
	seed     uint32 // of checksums
	records  []journalRecord
	revoked  map[uint64]uint32 // block to the last transaction that revoked it
}

// journalRecord is a block of the file system as a transaction left it.
type journalRecord struct {
	block   uint64
	at      int64 // byte offset in the image
	seq     uint32
	escaped bool   // its first four bytes are the journal's magic
	sum     uint32 // checksum of the transaction's number and the block
	bits    uint8  // of sum that count; 0: there is no checksum
}

// replay lays the finished transactions of the journal over the image.
func (v *reader) replay() error {
	num := binary.LittleEndian.Uint32(v.l.sb[0xe0:])
	if num == 0 {
		return errors.New("lies on another device")
	}
	n, err := v.inode(uint64(num))
	if err != nil {
		return err
	}
	x := n.Private.(*inode)
	j := &journal{v: v, x: x, f: v.data(x), revoked: make(map[uint64]uint32)}
	if err := j.scan(); err != nil {
		return err
	}
	over := &overlay{blockSize: int64(v.l.blockSize), seed: j.seed, blocks: make(map[int64]journalRecord)}
	for _, r := range j.records {
		if last, ok := j.revoked[r.block]; !ok || int32(r.seq-last) > 0 {
			over.blocks[int64(r.block)] = r
		}
	}
	if len(over.blocks) == 0 {
		return nil
	}
	v.r.Overlay(func(base io.ReaderAt) io.ReaderAt {
		over.base = base
		return over
	})
	v.l, err = readLayout(v.r)
	return err
}

// scan reads the journal's superblock and then one transaction after the other
// until one is not complete.
func (j *journal) scan() error {
	be := binary.BigEndian
	sb := make([]byte, 1024)
	if _, err := j.f.ReadAt(sb, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if be.Uint32(sb) != journalMagic || be.Uint32(sb[12:]) != uint32(j.v.l.blockSize) {
		return volume.Damaged("the journal has no superblock")
	}
	j.length, j.first = be.Uint32(sb[16:]), be.Uint32(sb[20:])
	seq, at := be.Uint32(sb[24:]), be.Uint32(sb[28:])
	if be.Uint32(sb[4:]) == 4 {
		j.incompat = be.Uint32(sb[40:])
	}
	switch {
	case at == 0:
		return nil // clean
	case j.incompat&journalUnreadable != 0:
		return fmt.Errorf("has features that cannot be read (%#x): run e2fsck -p on a copy", j.incompat)
	case !j.checkSuperblock(sb):
		return volume.Damaged("the checksum of the journal's superblock")
	case j.first == 0 || j.first >= j.length || j.length > journalMaxBlocks || at < j.first || at >= j.length:
		return volume.Damaged("the journal's superblock")
	}
	for left := int(j.length); left > 0; seq++ {
		next, used, err := j.transaction(at, seq, left)
		if err != nil || used == 0 {
			return err
		}
		at, left = next, left-used
	}
	return nil
}

// transaction reads one; used is 0 when it is not complete or not there.
func (j *journal) transaction(at, seq uint32, left int) (next uint32, used int, err error) {
	be := binary.BigEndian
	var records []journalRecord
	revoked := make(map[uint64]bool)
	good := true // all checksums so far
	for used < left {
		b, err := j.block(at)
		if err != nil {
			return 0, 0, err
		}
		if be.Uint32(b) != journalMagic || be.Uint32(b[8:]) != seq {
			return 0, 0, nil
		}
		at, used = j.after(at), used+1
		switch be.Uint32(b[4:]) {
		case 1:
			good = good && j.check(b, len(b)-4)
			n := len(records)
			if records, at, err = j.tags(b, at, seq, records, left); err != nil {
				return 0, 0, err
			}
			used += len(records) - n
		case 2:
			if !j.check(b, 16) {
				return 0, 0, nil // as if it were not complete
			}
			if !good {
				return 0, 0, volume.Damaged("a checksum of the journal's transaction %d, which is complete", seq)
			}
			j.records = append(j.records, records...)
			for block := range revoked {
				j.revoked[block] = seq
			}
			return at, used, nil
		case 5:
			good = good && j.check(b, len(b)-4)
			j.revokes(b, revoked)
		default:
			return 0, 0, nil
		}
	}
	return 0, 0, nil
}

// tags reads a descriptor block: which blocks follow it.
func (j *journal) tags(b []byte, at, seq uint32, out []journalRecord, left int) ([]journalRecord, uint32, error) {
	be := binary.BigEndian
	size := 8
	if j.incompat&journal64Bit != 0 {
		size += 4
	}
	if j.incompat&journalCsumV2 != 0 {
		size += 2
	}
	if j.incompat&journalCsumV3 != 0 {
		size = 16
	}
	if j.summed() {
		b = b[:len(b)-4]
	}
	for b = b[12:]; len(b) >= size; {
		if len(out) >= left {
			return nil, 0, volume.Damaged("a transaction longer than the journal")
		}
		r := journalRecord{block: uint64(be.Uint32(b)), seq: seq}
		flags := uint32(be.Uint16(b[6:]))
		switch {
		case j.incompat&journalCsumV3 != 0:
			flags = be.Uint32(b[4:])
			r.sum, r.bits = be.Uint32(b[12:]), 32
		case j.incompat&journalCsumV2 != 0:
			r.sum, r.bits = uint32(be.Uint16(b[4:])), 16
		}
		if j.incompat&journal64Bit != 0 {
			r.block |= uint64(be.Uint32(b[8:])) << 32
		}
		physical, _, err := j.v.run(j.x, uint64(at))
		if err != nil {
			return nil, 0, err
		}
		r.at, r.escaped = int64(physical)*int64(j.v.l.blockSize), flags&1 != 0
		out, at = append(out, r), j.after(at)
		b = b[size:]
		if flags&2 == 0 { // a UUID follows
			b = b[min(16, len(b)):]
		}
		if flags&8 != 0 { // the last one
			break
		}
	}
	return out, at, nil
}

func (j *journal) revokes(b []byte, out map[uint64]bool) {
	be := binary.BigEndian
	end := min(int(be.Uint32(b[12:])), len(b))
	size := 4
	if j.incompat&journal64Bit != 0 {
		size = 8
	}
	for at := 16; at+size <= end; at += size {
		if size == 8 {
			out[be.Uint64(b[at:])] = true
		} else {
			out[uint64(be.Uint32(b[at:]))] = true
		}
	}
}

func (j *journal) block(at uint32) ([]byte, error) {
	b := make([]byte, j.v.l.blockSize)
	_, err := j.f.ReadAt(b, int64(at)*int64(len(b)))
	return b, err
}

// after is the block behind one of the journal, which is a ring.
func (j *journal) after(at uint32) uint32 {
	if at+1 >= j.length {
		return j.first
	}
	return at + 1
}

// overlay reads blocks from where the journal has them.
type overlay struct {
	base      io.ReaderAt
	blockSize int64
	seed      uint32
	blocks    map[int64]journalRecord
}

func (o *overlay) ReadAt(b []byte, off int64) (int, error) {
	n, err := o.base.ReadAt(b, off)
	for block := off / o.blockSize; block*o.blockSize < off+int64(n); block++ {
		r, ok := o.blocks[block]
		if !ok {
			continue
		}
		data := make([]byte, o.blockSize)
		if _, err := o.base.ReadAt(data, r.at); err != nil {
			return 0, err
		}
		if !r.check(o.seed, data) {
			return 0, volume.Damaged("the checksum of block %d in the journal", block)
		}
		if r.escaped {
			binary.BigEndian.PutUint32(data, journalMagic)
		}
		from := block * o.blockSize
		if from < off {
			data, from = data[off-from:], off
		}
		copy(b[from-off:n], data)
	}
	return n, err
}

// Checksums of a journal with csum_v2 or csum_v3: CRC-32C of the journal's UUID,
// and then of what they protect, with zeros where the checksum itself stands. In
// a transaction that was interrupted they may be wrong; in one whose commit block
// is good they may not.

// summed reports whether the journal has such checksums.
func (j *journal) summed() bool { return j.incompat&(journalCsumV2|journalCsumV3) != 0 }

// checkSuperblock checks the first 1024 bytes of the journal, and takes the
// seed of all other checksums from them.
func (j *journal) checkSuperblock(sb []byte) bool {
	j.seed = crc(^uint32(0), sb[48:64])
	if !j.summed() {
		return true
	}
	const crc32c = 4
	return sb[0x50] == crc32c && crcWithout(^uint32(0), sb, 0xfc) == binary.BigEndian.Uint32(sb[0xfc:])
}

// check compares a block with the checksum at one of its offsets: the last four
// bytes of a descriptor or a revocation block, 16 in a commit block.
func (j *journal) check(b []byte, at int) bool {
	return !j.summed() || crcWithout(j.seed, b, at) == binary.BigEndian.Uint32(b[at:])
}

// check compares the block as it lies in the journal with the checksum that the
// transaction has of it.
func (r *journalRecord) check(seed uint32, data []byte) bool {
	if r.bits == 0 {
		return true
	}
	sum := crc(crc(seed, binary.BigEndian.AppendUint32(nil, r.seq)), data)
	return sum&(1<<r.bits-1) == r.sum
}

// crcWithout is crc of b with four zeros at offset at.
func crcWithout(sum uint32, b []byte, at int) uint32 {
	sum = crc(crc(sum, b[:at]), make([]byte, 4))
	return crc(sum, b[at+4:])
}
