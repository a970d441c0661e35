package vfat

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Probe accepts a boot sector whose whole BIOS parameter block is
// consistent (Microsoft's FAT specification 1.03): there is no magic.
func Probe(r *io.SectionReader) (tree.Info, error) {
	b, err := volume.Peek(r, 0, 512)
	if err != nil {
		return tree.Info{}, err
	}
	g, ok := parseBPB(b)
	if !ok {
		return tree.Info{}, nil
	}
	info := tree.Info{Type: "vfat", Size: volume.Bytes(g.sectors, g.sectorSize), BlockSize: int64(g.sectorSize * g.perCluster), Sector: int64(g.sectorSize), Free: -1}
	ext := b[36:]
	if g.bits == 32 {
		ext = b[64:]
	}
	if ext[2] == 0x29 || ext[2] == 0x28 {
		serial := binary.LittleEndian.Uint32(ext[3:])
		info.UUID = fmt.Sprintf("%04X-%04X", serial>>16, serial&0xffff)
	}
	if ext[2] == 0x29 {
		info.Label = strings.TrimRight(string(ext[7:18]), " \x00")
	}
	if label, err := rootLabel(r, g); err != nil || label != "" {
		info.Label = label
		return info, err
	}
	if info.Label == "NO NAME" {
		info.Label = ""
	}
	return info, nil
}

// rootLabel searches for the volume's entry in the first sectors of the root.
func rootLabel(r *io.SectionReader, g geometry) (string, error) {
	start, n := g.rootAt(), min(g.rootEntries*32, 64<<10)
	if g.bits == 32 {
		if g.rootCluster < 2 || g.rootCluster-2 >= g.clusters {
			return "", nil
		}
		start = g.clusterAt(uint32(g.rootCluster))
		n = min(g.perCluster*g.sectorSize, 64<<10)
	}
	b, err := volume.Peek(r, start, int(n))
	if err != nil {
		return "", err
	}
	for ; len(b) >= 32 && b[0] != 0; b = b[32:] {
		if b[11]&0x3f == 0x08 && b[0] != 0xe5 {
			return strings.TrimRight(string(b[:11]), " "), nil
		}
	}
	return "", nil
}
