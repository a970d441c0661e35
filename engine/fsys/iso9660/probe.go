package iso9660

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"

	"b9.build/b9/engine/fsys/internal/volume"
	"b9.build/b9/engine/fsys/tree"
)

// Probe reads volume descriptors (ECMA-119, 8.4) up to the terminator.
func Probe(r *io.SectionReader) (tree.Info, error) {
	var info tree.Info
	for n := int64(16); n < 64; n++ {
		b, err := volume.Peek(r, n*2048, 2048)
		if err != nil {
			return tree.Info{}, err
		}
		if string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		switch {
		case b[0] == 1 && info.Type == "":
			bs := int64(binary.LittleEndian.Uint16(b[128:]))
			info = tree.Info{Type: "iso9660", Label: strings.TrimRight(string(b[40:72]), " \x00"), BlockSize: bs,
				Size: int64(binary.LittleEndian.Uint32(b[80:])) * bs, UUID: uuid(b[813:830])}
		case b[0] == 2 && info.Type != "" && bytes.HasPrefix(b[88:], []byte("%/")):
			// Joliet holds the longer name where the first was cut or folded.
			if long := strings.TrimRight(utf16BE(b[40:72]), " \x00"); strings.EqualFold(strings.ReplaceAll(long, " ", "_"), info.Label) {
				info.Label = long
			}
		}
	}
	return info, nil
}

// uuid is a time of a descriptor as blkid writes it.
func uuid(d []byte) string {
	for _, c := range d[:16] {
		if c < '0' || c > '9' {
			return ""
		}
	}
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", d[:4], d[4:6], d[6:8], d[8:10], d[10:12], d[12:14], d[14:16])
}

// utf16BE decodes the text of Joliet.
func utf16BE(b []byte) string {
	var u []uint16
	for i := 0; i+1 < len(b); i += 2 {
		u = append(u, binary.BigEndian.Uint16(b[i:]))
	}
	return string(utf16.Decode(u))
}
