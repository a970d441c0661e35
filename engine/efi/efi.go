// Package efi reads and writes programs of UEFI: PE images (Microsoft's PE format,
// "Image Only"; UEFI specification 2.10, section 2.1.1), of which a unified kernel image
// (the UAPI group's specification of that name) is one with a kernel, its initrd and
// its command line as sections.
//
// It hides headers, alignment and checksums, and how sbsign gets a key. It loads nothing.
//
//	Extend     a program with further sections
//	Inspect    what a program says of itself, and a kernel of its version
//	IsProgram  whether a file is one
//	Signer     signatures for secure boot, by sbsign
package efi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Machines by the names that UEFI gives their default boot loaders (UEFI specification
// 2.10, table 3.3), in lower case: BOOTX64.EFI is for "x64".
func machineName(machine uint16) string {
	switch machine {
	case 0x8664:
		return "x64"
	case 0x14c:
		return "ia32"
	case 0xaa64:
		return "aa64"
	case 0x1c2, 0x1c4:
		return "arm"
	case 0x5064:
		return "riscv64"
	case 0x6264:
		return "loongarch64"
	}
	return ""
}

// Info is what a program says of itself.
type Info struct {
	Machine string // "x64", "aa64" and so on, as in BOOTX64.EFI; "" for none that is known
	Size    int64  // bytes of memory that it takes when it is loaded
	Version string // of a Linux kernel for x86, such as "6.1.0-31-amd64"; else ""
}

// Places in the headers. Optional headers of PE32 and PE32+ differ in what no place here is in.
const (
	fileHeader     = 24 // bytes of the signature and the COFF file header
	sectionHeader  = 40 // bytes
	mostHeaders    = 1 << 16
	bzImageMagic   = 0x202 // "HdrS": The Linux/x86 Boot Protocol
	bzImageVersion = 0x20e
)

// header is the head of a PE image, up to the end of the table of its sections.
type header struct {
	raw      []byte
	pe       int // where the signature is
	sections int
}

// fields of the headers, in place.
func (h *header) machine() uint16      { return binary.LittleEndian.Uint16(h.raw[h.pe+4:]) }
func (h *header) optional() int        { return h.pe + fileHeader }
func (h *header) optionalSize() int    { return int(binary.LittleEndian.Uint16(h.raw[h.pe+20:])) }
func (h *header) table() int           { return h.optional() + h.optionalSize() }
func (h *header) tableEnd() int        { return h.table() + h.sections*sectionHeader }
func (h *header) field(at int) uint32  { return binary.LittleEndian.Uint32(h.raw[h.optional()+at:]) }
func (h *header) set(at int, v uint32) { binary.LittleEndian.PutUint32(h.raw[h.optional()+at:], v) }
func (h *header) section(i int) section {
	return section(h.raw[h.table()+i*sectionHeader:][:sectionHeader])
}

// Offsets of fields in the optional header.
const (
	initializedData  = 8
	sectionAlignment = 32
	fileAlignment    = 36
	sizeOfImage      = 56
	sizeOfHeaders    = 60
	checkSum         = 64
	certificates32   = 96 + 4*8  // the directory of certificates, in a PE32
	certificates64   = 112 + 4*8 // and in a PE32+
)

// section is an entry of the table of sections.
type section []byte

func (s section) field(at int) uint32  { return binary.LittleEndian.Uint32(s[at:]) }
func (s section) set(at int, v uint32) { binary.LittleEndian.PutUint32(s[at:], v) }

// Offsets of fields in a section's header.
const (
	virtualSize     = 8
	virtualAddress  = 12
	rawSize         = 16
	rawPointer      = 20
	characteristics = 36
)

// errFormat is in the error for what is no program of UEFI.
var errFormat = errors.New("no program of UEFI")

// readHeader reads and checks the head of a program.
func readHeader(r io.ReaderAt) (*header, error) {
	b := make([]byte, mostHeaders)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	b = b[:n]
	if len(b) < 0x40 || string(b[:2]) != "MZ" {
		return nil, fmt.Errorf("%w: it does not begin with MZ", errFormat)
	}
	h := &header{raw: b, pe: int(binary.LittleEndian.Uint32(b[0x3c:]))}
	if h.pe > len(b)-fileHeader-certificates64-8 || h.pe < 0 || !bytes.Equal(b[h.pe:h.pe+4], []byte("PE\x00\x00")) {
		return nil, fmt.Errorf("%w: it has no PE header", errFormat)
	}
	h.sections = int(binary.LittleEndian.Uint16(b[h.pe+6:]))
	if h.optionalSize() < certificates64+8-16 || h.tableEnd() > len(b) {
		return nil, fmt.Errorf("%w: its headers reach behind its end", errFormat)
	}
	if m := binary.LittleEndian.Uint16(b[h.optional():]); m != 0x10b && m != 0x20b {
		return nil, fmt.Errorf("%w: its optional header is of kind %#x", errFormat, m)
	}
	return h, nil
}

// Inspect reads the head of a program. What is no program is an error.
func Inspect(r io.ReaderAt) (Info, error) {
	h, err := readHeader(r)
	if err != nil {
		return Info{}, err
	}
	return Info{Machine: machineName(h.machine()), Size: int64(h.field(sizeOfImage)), Version: kernelVersion(h.raw)}, nil
}

// IsProgram reports whether what is read is a program for a machine that UEFI knows.
func IsProgram(r io.ReaderAt) (bool, error) {
	info, err := Inspect(r)
	if errors.Is(err, errFormat) {
		return false, nil
	}
	return err == nil && info.Machine != "", err
}

// kernelVersion is the version in the head of a bzImage, "" where there is none.
func kernelVersion(b []byte) string {
	if len(b) < bzImageVersion+2 || string(b[bzImageMagic:bzImageMagic+4]) != "HdrS" {
		return ""
	}
	at := 0x200 + int(binary.LittleEndian.Uint16(b[bzImageVersion:]))
	if at >= len(b) {
		return ""
	}
	text, _, _ := bytes.Cut(b[at:min(len(b), at+256)], []byte{0})
	version, _, _ := bytes.Cut(text, []byte{' '})
	return string(version)
}
