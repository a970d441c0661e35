package efi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// Section is what is added to a program.
type Section struct {
	Name    string // at most 8 bytes, such as ".linux"
	Size    int64  // bytes
	Virtual int64  // bytes of memory that it takes; 0 is Size
	Code    bool   // it is executed, and not only read
	Open    func() (io.ReadCloser, error)
}

// What a section is for (characteristics of PE).
const (
	isCode   = 0x20
	isData   = 0x40
	executes = 0x20000000
	reads    = 0x40000000
)

// pageSize is what sections are aligned to in memory, at least: what firmware protects
// at once, and what kernels want to lie on.
const pageSize = 4096

// Extend writes the program stub with the sections behind its own, in order, to a new
// file at dst. The bytes follow from the arguments alone. Symbols, and certificates,
// which would not hold any more, are left out. A stub whose headers have no room for the
// sections gets larger ones.
func Extend(ctx context.Context, dst string, stub io.ReaderAt, sections []Section) (err error) {
	h, err := readHeader(stub)
	if err != nil {
		return fmt.Errorf("the stub is %w", err)
	}
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	e := &extender{ctx: ctx, h: h, out: out, align: max(int64(h.field(fileAlignment)), 512)}
	if err := e.begin(stub, len(sections)); err != nil {
		return fmt.Errorf("the stub: %w", err)
	}
	for i := range sections {
		if err := e.add(&sections[i]); err != nil {
			return fmt.Errorf("%s: %w", sections[i].Name, err)
		}
	}
	return e.finish()
}

// extender writes a program: what is in its sections first, its headers last.
type extender struct {
	ctx   context.Context
	h     *header
	out   *os.File
	align int64 // of sections in the file
	end   int64 // of what was written
	next  int64 // address of the next section
	sum   uint64
}

// begin copies what is in the stub's own sections, and makes the headers large enough.
func (e *extender) begin(stub io.ReaderAt, more int) error {
	h := e.h
	var first, old int64 = math.MaxInt64, int64(h.field(sizeOfHeaders))
	for i := range h.sections {
		s := h.section(i)
		first = min(first, int64(s.field(virtualAddress)))
		e.next = max(e.next, int64(s.field(virtualAddress))+int64(max(s.field(virtualSize), s.field(rawSize))))
	}
	need := roundUp(int64(h.tableEnd()+more*sectionHeader), e.align)
	if need = max(need, old); need > first || need > mostHeaders {
		return fmt.Errorf("there is no room for %d more sections before its first one", more)
	}
	e.end = need
	for i := range h.sections {
		s := h.section(i)
		if s.field(rawSize) == 0 {
			continue
		}
		from := io.NewSectionReader(stub, int64(s.field(rawPointer)), int64(s.field(rawSize)))
		s.set(rawPointer, uint32(e.end))
		if err := e.copy(from, from.Size()); err != nil {
			return err
		}
	}
	head := make([]byte, need)
	copy(head, h.raw[:h.tableEnd()])
	h.raw = head
	h.set(sizeOfHeaders, uint32(need))
	return nil
}

// add writes one section and its entry of the table.
func (e *extender) add(s *Section) error {
	e.next = roundUp(e.next, max(pageSize, int64(e.h.field(sectionAlignment))))
	virtual := max(s.Size, s.Virtual)
	if len(s.Name) > 8 || s.Size == 0 || e.next+virtual > math.MaxInt32 || e.end+s.Size > math.MaxInt32 {
		return fmt.Errorf("%d bytes: a section has 1 byte at least, and a program less than 2 GiB", s.Size)
	}
	e.h.sections++
	binary.LittleEndian.PutUint16(e.h.raw[e.h.pe+6:], uint16(e.h.sections))
	entry, kind := e.h.section(e.h.sections-1), uint32(isData|reads)
	if s.Code {
		kind = isCode | executes | reads
	}
	copy(entry, s.Name)
	entry.set(virtualSize, uint32(virtual))
	entry.set(virtualAddress, uint32(e.next))
	entry.set(rawSize, uint32(roundUp(s.Size, e.align)))
	entry.set(rawPointer, uint32(e.end))
	entry.set(characteristics, kind)
	if !s.Code {
		e.h.set(initializedData, e.h.field(initializedData)+entry.field(rawSize))
	}
	e.next += virtual
	in, err := s.Open()
	if err != nil {
		return err
	}
	return errors.Join(e.copy(in, s.Size), in.Close())
}

// copy appends n bytes, and zeros up to where the next section can begin.
func (e *extender) copy(in io.Reader, n int64) error {
	buf := make([]byte, 1<<20)
	for left := n; left > 0; {
		if err := context.Cause(e.ctx); err != nil {
			return err
		}
		b := buf[:min(int64(len(buf)), left)]
		if _, err := io.ReadFull(in, b); errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
		e.sum += words(b)
		if _, err := e.out.WriteAt(b, e.end+n-left); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	e.end = roundUp(e.end+n, e.align)
	return nil
}

// finish writes the headers.
func (e *extender) finish() error {
	h := e.h
	clear(h.raw[h.pe+12 : h.pe+20]) // the symbols
	certificates := certificates64
	if binary.LittleEndian.Uint16(h.raw[h.optional():]) == 0x10b {
		certificates = certificates32
	}
	h.set(certificates, 0)
	h.set(certificates+4, 0)
	h.set(sizeOfImage, uint32(roundUp(e.next, max(pageSize, int64(h.field(sectionAlignment))))))
	h.set(checkSum, 0)
	h.set(checkSum, fold(e.sum+words(h.raw))+uint32(e.end))
	if _, err := e.out.WriteAt(h.raw, 0); err != nil {
		return err
	}
	return e.out.Truncate(e.end)
}

// words is the sum of the 16-bit words of b; an odd byte at the end is one with a zero.
func words(b []byte) (sum uint64) {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint64(b[0]) | uint64(b[1])<<8
	}
	if len(b) == 1 {
		sum += uint64(b[0])
	}
	return sum
}

// fold adds what does not fit into 16 bits at their other end, as the checksum of a
// PE image does after every word.
func fold(sum uint64) uint32 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint32(sum)
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }
