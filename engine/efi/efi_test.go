package efi_test

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"b9.build/b9/engine/efi"
)

// program is a PE image with one section, whose headers end where its table of sections
// does: there is no room for another one. A PE32 is for ia32, a PE32+ for x64.
func program(t testing.TB, plus bool, headers uint32) []byte {
	t.Helper()
	var b bytes.Buffer
	head := make([]byte, 0x40)
	copy(head, "MZ")
	head[0x3c] = 0x40
	b.Write(head)
	b.WriteString("PE\x00\x00")
	file := pe.FileHeader{Machine: 0x14c, NumberOfSections: 1, SizeOfOptionalHeader: 96 + 16*8, PointerToSymbolTable: 0x1234, NumberOfSymbols: 7, Characteristics: 0x206}
	o32 := pe.OptionalHeader32{Magic: 0x10b, SectionAlignment: 512, FileAlignment: 512, SizeOfImage: 0x1200, SizeOfHeaders: headers, Subsystem: 10, NumberOfRvaAndSizes: 16, SizeOfInitializedData: 512}
	var optional any = &o32
	certificates := &o32.DataDirectory[4]
	if plus {
		o64 := pe.OptionalHeader64{Magic: 0x20b, SectionAlignment: 512, FileAlignment: 512, SizeOfImage: 0x1200, SizeOfHeaders: headers, Subsystem: 10, NumberOfRvaAndSizes: 16, SizeOfInitializedData: 512}
		file.Machine, file.SizeOfOptionalHeader, optional, certificates = 0x8664, 112+16*8, &o64, &o64.DataDirectory[4]
	}
	*certificates = pe.DataDirectory{VirtualAddress: headers + 512, Size: 8}
	text := pe.SectionHeader32{VirtualSize: 500, VirtualAddress: 0x1000, SizeOfRawData: 512, PointerToRawData: headers, Characteristics: 0x60000020}
	copy(text.Name[:], ".text")
	for _, part := range []any{file, optional, text} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(make([]byte, int(headers)-b.Len()))
	b.Write(bytes.Repeat([]byte{0xc3}, 512))
	b.WriteString("a signature, and symbols")
	return b.Bytes()
}

func text(name, s string) efi.Section {
	return efi.Section{Name: name, Size: int64(len(s)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil }}
}

// TestProgram holds what other packages test with to what is said of it here.
func TestProgram(t *testing.T) {
	if got, err := os.ReadFile("testdata/program.efi"); err != nil || !bytes.Equal(got, program(t, true, 1024)) {
		t.Errorf("testdata/program.efi is not program(true, 1024): %v", err)
	}
}

// TestExtend reads what was written with debug/pe and objdump: the stub's section and
// the new ones, with their bytes, at addresses that do not overlap.
func TestExtend(t *testing.T) {
	stubs := map[string][]byte{"PE32+, full": program(t, true, 512), "PE32, full": program(t, false, 512), "PE32+, roomy": program(t, true, 1024)}
	const systemd = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	if data, err := os.ReadFile(systemd); err == nil {
		stubs[systemd] = data
	} else {
		t.Logf("without the stub of Debian's package systemd-boot-efi: %v", err)
	}
	for name, stub := range stubs {
		t.Run(name, func(t *testing.T) {
			kernel := text(".linux", strings.Repeat("kernel", 1000))
			kernel.Code, kernel.Virtual = true, 1<<20
			want := []efi.Section{text(".osrel", "ID=b9\n"), text(".cmdline", "root=LABEL=root"), text(".uname", "6.1"), text(".splash", "s"), text(".dtb", "d"),
				text(".initrd", strings.Repeat("x", 5001)), text(".a", "a"), text(".b", "b"), text(".c", "c"), text(".d", "d"), kernel}
			path := filepath.Join(t.TempDir(), "linux.efi")
			if err := efi.Extend(t.Context(), path, bytes.NewReader(stub), want); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			checkSections(t, stub, got, want)
			checkChecksum(t, got)
			if out, err := exec.Command("objdump", "-h", path).CombinedOutput(); err != nil || !strings.Contains(string(out), ".linux") {
				t.Errorf("objdump: %v: %s", err, out)
			}
			again := filepath.Join(t.TempDir(), "again.efi")
			if err := efi.Extend(t.Context(), again, bytes.NewReader(stub), want); err != nil {
				t.Fatal(err)
			}
			if second, err := os.ReadFile(again); err != nil || !bytes.Equal(got, second) {
				t.Errorf("other bytes the second time: %v", err)
			}
		})
	}
}

func checkSections(t *testing.T, stub, got []byte, want []efi.Section) {
	t.Helper()
	before, err := pe.NewFile(bytes.NewReader(stub))
	if err != nil && !strings.Contains(err.Error(), "string table") {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	own := len(f.Sections) - len(want)
	if before != nil && own != len(before.Sections) {
		t.Fatalf("%d sections of the stub, it had %d", own, len(before.Sections))
	}
	end := uint32(0)
	for i, s := range f.Sections {
		if s.VirtualAddress < end || s.Offset%512 != 0 || i >= own && s.VirtualAddress%4096 != 0 {
			t.Errorf("%s is at address %#x, offset %#x; before it ends %#x", s.Name, s.VirtualAddress, s.Offset, end)
		}
		end = s.VirtualAddress + s.VirtualSize
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		if i < own {
			if before != nil {
				old, _ := before.Sections[i].Data()
				if !bytes.Equal(old, data) {
					t.Errorf("the stub's %s has other bytes", s.Name)
				}
			}
			continue
		}
		w := want[i-own]
		in, _ := w.Open()
		content, _ := io.ReadAll(in)
		kind := uint32(0x40000040)
		if w.Code {
			kind = 0x60000020
		}
		if s.Name != w.Name || int64(s.VirtualSize) != max(w.Size, w.Virtual) || !bytes.HasPrefix(data, content) || len(bytes.Trim(data[len(content):], "\x00")) > 0 || s.Characteristics != kind {
			t.Errorf("section %+v of %d bytes, want %s of %d", s.SectionHeader, len(data), w.Name, len(content))
		}
	}
	checkOptional(t, f, end)
}

func checkOptional(t *testing.T, f *pe.File, end uint32) {
	t.Helper()
	size, certificates := uint32(0), pe.DataDirectory{}
	switch o := f.OptionalHeader.(type) {
	case *pe.OptionalHeader64:
		size, certificates = o.SizeOfImage, o.DataDirectory[4]
	case *pe.OptionalHeader32:
		size, certificates = o.SizeOfImage, o.DataDirectory[4]
	}
	if size < end || size%4096 != 0 || size-end >= 4096 {
		t.Errorf("SizeOfImage is %#x, the last section ends at %#x", size, end)
	}
	if certificates.Size != 0 || f.PointerToSymbolTable != 0 {
		t.Errorf("certificates %v, symbols at %#x", certificates, f.PointerToSymbolTable)
	}
}

// checkChecksum computes the checksum as ImageHlp's CheckSumMappedFile does, a word at
// a time.
func checkChecksum(t *testing.T, b []byte) {
	t.Helper()
	at := int(binary.LittleEndian.Uint32(b[0x3c:])) + 24 + 64
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		if i == at || i == at+2 {
			continue
		}
		sum += uint32(binary.LittleEndian.Uint16(b[i:]))
		sum = sum&0xffff + sum>>16
	}
	if want, got := sum+uint32(len(b)), binary.LittleEndian.Uint32(b[at:]); got != want {
		t.Errorf("the checksum is %#x, want %#x", got, want)
	}
}

// TestMistakes extends what can't be extended.
func TestMistakes(t *testing.T) {
	small := program(t, true, 512)
	small[0x40+24+112+128+12], small[0x40+24+112+128+13] = 0, 2 // its section begins at 0x200 in memory
	for name, c := range map[string]struct {
		stub     []byte
		sections []efi.Section
		says     string
	}{
		"text":     {[]byte("#!/bin/sh\n" + strings.Repeat("x", 100)), nil, "the stub is no program of UEFI: it does not begin with MZ"},
		"no PE":    {append([]byte("MZ"), make([]byte, 600)...), nil, "it has no PE header"},
		"cut":      {program(t, true, 512)[:350], nil, "reach behind its end"},
		"no room":  {small, []efi.Section{text(".a", "a"), text(".b", "b"), text(".c", "c"), text(".d", "d")}, "no room for 4 more sections"},
		"empty":    {program(t, true, 512), []efi.Section{text(".a", "")}, "a section has 1 byte at least"},
		"huge":     {program(t, true, 512), []efi.Section{{Name: ".a", Size: 3 << 30}}, "a program less than 2 GiB"},
		"too long": {program(t, true, 512), []efi.Section{text(".123456789", "a")}, ".123456789"},
		"short":    {program(t, true, 512), []efi.Section{{Name: ".a", Size: 5, Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("1")), nil }}}, "unexpected EOF"},
	} {
		err := efi.Extend(t.Context(), filepath.Join(t.TempDir(), "x"), bytes.NewReader(c.stub), c.sections)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestInspect reads what kernels and programs say.
func TestInspect(t *testing.T) {
	kernel := program(t, true, 1024)
	copy(kernel[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(kernel[0x20e:], 0x100)
	copy(kernel[0x300:], "6.1.0-31-amd64 (debian) #1\x00")
	got, err := efi.Inspect(bytes.NewReader(kernel))
	if want := (efi.Info{Machine: "x64", Size: 0x1200, Version: "6.1.0-31-amd64"}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := efi.Inspect(bytes.NewReader(program(t, false, 512))); err != nil || got.Machine != "ia32" || got.Version != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := efi.Inspect(strings.NewReader("text")); err == nil || !strings.Contains(err.Error(), "no program of UEFI") {
		t.Errorf("text: %v", err)
	}
}

// FuzzInspect reads the head of what is no program, and of what nearly is one.
func FuzzInspect(f *testing.F) {
	f.Add(program(f, true, 512)[:420])
	f.Add(program(f, false, 512)[:420])
	f.Add([]byte("MZ"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, stub []byte) {
		info, err := efi.Inspect(bytes.NewReader(stub))
		if err != nil {
			return
		}
		path := filepath.Join(dir, "x")
		defer os.Remove(path)
		if err := efi.Extend(t.Context(), path, bytes.NewReader(stub), []efi.Section{text(".a", "a")}); err != nil {
			return
		}
		out, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		if got, err := efi.Inspect(out); err != nil || got.Machine != info.Machine {
			t.Errorf("what was made of it is %+v, %v; it was %+v", got, err, info)
		}
	})
}
