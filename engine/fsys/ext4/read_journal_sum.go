package ext4

import "encoding/binary"

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

// checkTail checks a descriptor or revocation block, which ends with its checksum.
func (j *journal) checkTail(b []byte) bool {
	at := len(b) - 4
	return !j.summed() || crcWithout(j.seed, b, at) == binary.BigEndian.Uint32(b[at:])
}

func (j *journal) checkCommit(b []byte) bool {
	return !j.summed() || crcWithout(j.seed, b, 16) == binary.BigEndian.Uint32(b[16:])
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
