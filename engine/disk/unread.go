package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// UnreadError says that an image is in a format that b9 does not read. It would become a
// raw image of which no byte is right.
type UnreadError struct {
	Format string // such as "a QED image"
	Way    string // what makes of it what b9 reads
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("it is %s, which b9 does not read: %s", e.Format, e.Way)
}

// unread is a format of other programs that b9 does not read. It is known by a magic, at
// an offset from the beginning of the file, or from its end if that is negative. An
// encrypted disk (LUKS) is none: it is raw, and its content is its user's matter.
type unread struct {
	name  string
	names []string // as --format or the ending of a file's name has it
	magic []string
	at    int64
	way   string
}

// unreadFormats is the table of them. Sources: docs/interop and block/*.c of QEMU, the
// Android sparse format (libsparse), Apple's UDIF and sparse images, VMware's SE sparse
// extents, libewf, partclone, ntfs-3g, Partimage, and Microsoft's WIM.
func unreadFormats() []unread {
	qemu := func(f string) string { return "`qemu-img convert -f " + f + " -O qcow2` makes one that it does" }
	return []unread{
		{"a QED image", []string{"qed"}, []string{"QED\x00"}, 0, qemu("qed")},
		{"a qcow image of version 1", []string{"qcow"}, []string{"QFI\xfb\x00\x00\x00\x01"}, 0, qemu("qcow")},
		{"a Parallels image", []string{"parallels", "hdd", "hds"}, []string{"WithoutFreeSpace", "WithouFreSpacExt"}, 0, qemu("parallels")},
		{"a Bochs image", []string{"bochs"}, []string{"Bochs Virtual HD Image"}, 0, qemu("bochs")},
		{"a cloop image", []string{"cloop"}, []string{"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"}, 0, qemu("cloop")},
		{"a DMG (UDIF) of Apple's", []string{"dmg"}, []string{"koly"}, -512, qemu("dmg")},
		{"a sparse image of Apple's", []string{"sparseimage"}, []string{"sprs"}, 0, "`hdiutil convert -format UDTO` makes a raw one"},
		{"an ASIF image of Apple's", []string{"asif"}, []string{"shdw"}, 0, "`diskutil image create from` makes a raw one"},
		{"a sparse image of Android's", []string{"simg"}, []string{"\x3a\xff\x26\xed"}, 0, "`simg2img` makes a raw one"},
		{"an SE sparse extent of VMware's", []string{"sesparse"}, []string{"\xbe\xba\xfe\xca\x00\x00\x00\x00"}, 0, "`vmkfstools -i` makes another one"},
		{"an EWF image (EnCase)", []string{"e01", "ewf", "ex01"}, []string{"EVF\x09\x0d\x0a\xff\x00", "EVF2\x0d\x0a\x81\x00"}, 0, "`ewfexport` makes a raw one"},
		{"an image of partclone's", nil, []string{"partclone-image"}, 0, "`partclone.restore` makes a raw one"},
		{"an image of ntfsclone's", nil, []string{"\x00ntfsclone-image"}, 0, "`ntfsclone --restore-image` makes a raw one"},
		{"an image of Partimage's", []string{"partimg"}, []string{"PaRtImAgE-VoLuMe"}, 0, "`partimage restore` makes a raw one"},
		{"a WIM archive of Windows's", []string{"wim", "esd"}, []string{"MSWIM\x00\x00\x00"}, 0, "`wimapply` unpacks it"},
		{"a compressed ISO", []string{"cso", "ciso", "isz"}, []string{"CISO", "IsZ!"}, 0, "unpack it first"},
		{"an image of Nero's", []string{"nrg"}, []string{"NERO"}, -8, "`nrg2iso` makes an ISO"},
		{"an image of Nero's", []string{"nrg"}, []string{"NER5"}, -12, "`nrg2iso` makes an ISO"},
		{"a tar archive", []string{"ova", "tar"}, []string{"ustar"}, 257, "take the disk out of it, as image(source = ..., member = ...) does; an OVA is one"},
	}
}

// Unread returns an [UnreadError] for the name, or ending of a file's name, of a format
// that b9 knows and does not read; nil for any other.
func Unread(name string) error {
	for _, f := range unreadFormats() {
		if slices.Contains(f.names, name) {
			return &UnreadError{f.name, f.way}
		}
	}
	return nil
}

// checkUnread returns an [UnreadError] for a file that is in a format that b9 does not
// read. head is how it begins.
func checkUnread(f *os.File, head []byte) error {
	const footer = 512 // the farthest from the end
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := make([]byte, min(size, footer))
	if n, err := f.ReadAt(tail, size-int64(len(tail))); n < len(tail) && !errors.Is(err, io.EOF) {
		return err
	}
	for _, u := range unreadFormats() {
		part := tail
		at := int64(len(tail)) + u.at
		if u.at >= 0 {
			part, at = head, u.at
		}
		if at < 0 || at > int64(len(part)) {
			continue
		}
		for _, magic := range u.magic {
			if bytes.HasPrefix(part[at:], []byte(magic)) {
				return &UnreadError{u.name, u.way}
			}
		}
	}
	return nil
}
