package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"b9.build/b9/cmd/b9/internal/output"
)

// longTests is set by `make test`: examples that install a Debian take
// minutes, and the everyday `go test ./...` leaves them out.
const longTests = "B9_LONG_TESTS"

// checkout copies the examples into a workspace of its own.
func checkout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "examples"), os.DirFS(filepath.Join("..", "..", "examples"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b9.toml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// b9 runs the program in process and returns what it reports as JSON.
func b9(t *testing.T, args ...string) output.Build {
	t.Helper()
	var stdout, stderr bytes.Buffer
	build := func() int {
		stdout.Reset()
		stderr.Reset()
		return run(context.Background(), append([]string{"--json"}, args...), strings.NewReader(""), &stdout, &stderr)
	}
	code := build()
	// A mirror in the middle of an update: only waiting helps.
	for wait := 15 * time.Second; code != 0 && strings.Contains(stderr.String(), "the archive is out of step with itself") && wait <= 4*time.Minute; wait *= 2 {
		t.Logf("again in %v: %s", wait, &stderr)
		time.Sleep(wait)
		code = build()
	}
	if code != 0 {
		t.Fatalf("b9 %s: exit status %d\n%s", strings.Join(args, " "), code, stderr.String())
	}
	var r output.Build
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout.String())
	}
	return r
}

// A base image that is published again changes what is built on it when the
// lock file is moved, and not before.
func TestExampleIsPinned(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, store := checkout(t), t.TempDir()
	build := func(args ...string) output.Build {
		return b9(t, append([]string{"-C", dir, "--store", store, "build"}, args...)...)
	}
	build("examples/appliance_base.star")
	first := build("examples/appliance.star")
	build("examples/appliance_base.star", "-D", "release=2")
	if pinned := build("examples/appliance.star", "--locked"); pinned.Executed != 0 || !slices.Equal(pinned.Results, first.Results) {
		t.Errorf("%d steps ran for a version that is not in the lock file", pinned.Executed)
	}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"-C", dir, "--store", store, "update", "appliance_base"}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatalf("update: exit status %d\n%s", code, out.String())
	}
	if moved := build("examples/appliance.star", "--locked"); moved.Executed != 3 || slices.Equal(moved.Results, first.Results) {
		t.Errorf("after update %d steps ran, want 3", moved.Executed)
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "*.star"))
	if err != nil || len(files) < 5 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	slow := []string{"debian.star", "hello32.star"}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("needs root")
			}
			if slices.Contains(slow, name) && os.Getenv(longTests) == "" {
				t.Skipf("installs a Debian: set %s=1, as `make test` does", longTests)
			}
			dir, store := checkout(t), t.TempDir()
			if name == "hello32.star" && !runs32(t) {
				refused32(t, dir, store)
				return
			}
			if name == "hello32.star" {
				t.Run("where nothing of 32 bits runs", func(t *testing.T) {
					without32(t)
					refused32(t, dir, store)
				})
			}
			if name == "appliance.star" { // uses what the other one publishes
				b9(t, "-C", dir, "--store", store, "build", "examples/appliance_base.star")
			}
			first := b9(t, "-C", dir, "--store", store, "build", "examples/"+name)
			if first.Executed == 0 || len(first.Results) == 0 {
				t.Errorf("executed %d steps with %d results", first.Executed, len(first.Results))
			}
			for _, p := range first.Results {
				if _, err := os.Stat(filepath.Join(dir, p.Path)); err != nil {
					t.Error(err)
				}
			}
			if !slices.Contains(changing(), name) {
				t.Run("digests", func(t *testing.T) { checkDigests(t, name, first.Results) })
			}
			again := b9(t, "-C", dir, "--store", store, "build", "examples/"+name)
			if again.Executed != 0 || !slices.Equal(first.Results, again.Results) {
				t.Errorf("again: %d executed, results %v, want 0 and %v", again.Executed, again.Results, first.Results)
			}
		})
	}
}

// refused32 expects what hello32.star comes to where no 32-bit program runs.
func refused32(t *testing.T, dir, store string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"-C", dir, "--store", store, "build", "examples/hello32.star"}, strings.NewReader(""), &stdout, &stderr)
	if want := "this machine's kernel can't run programs of i386"; code != 1 || !strings.Contains(stderr.String(), want) {
		t.Errorf("exit status %d, want 1 and %q:\n%s", code, want, stderr.String())
	}
}

// without32 makes b9 believe that this machine runs no 32-bit program.
func without32(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "arch-test"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// runs32 reports whether this machine runs 32-bit programs.
func runs32(t *testing.T) bool {
	t.Helper()
	program := filepath.Join(t.TempDir(), "exit0")
	if err := os.WriteFile(program, exit0ELF(elf.ELFCLASS32, elf.EM_386), 0o755); err != nil {
		t.Fatal(err)
	}
	err := exec.Command(program).Run()
	if err != nil && !errors.Is(err, syscall.ENOEXEC) {
		t.Fatalf("a 32-bit program: %v", err) // it was neither run nor refused
	}
	return err == nil
}

// exit0ELF is a program of 32-bit x86 in a few bytes, which calls exit(0). The
// class and the machine say what the kernel takes it for.
func exit0ELF(class elf.Class, machine elf.Machine) []byte {
	const base, code = 0x08048000, 0x54
	text := []byte{
		0x31, 0xdb, // xor ebx, ebx
		0x31, 0xc0, // xor eax, eax
		0x40,       // inc eax: exit
		0xcd, 0x80, // int 0x80
	}
	var b bytes.Buffer
	header := elf.Header32{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(class), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + code, Phoff: 0x34, Ehsize: 0x34, Phentsize: 0x20, Phnum: 1,
	}
	segment := elf.Prog32{
		Type: uint32(elf.PT_LOAD), Vaddr: base, Paddr: base, Flags: uint32(elf.PF_R | elf.PF_X), Align: 0x1000,
		Filesz: uint32(code + len(text)), Memsz: uint32(code + len(text)),
	}
	for _, part := range []any{header, segment, text} {
		_ = binary.Write(&b, binary.LittleEndian, part) // to memory
	}
	return b.Bytes()
}

// TestRuns32 holds the tiny program against arch-test(1), and against a
// machine that no kernel runs programs of.
func TestRuns32(t *testing.T) {
	archTest, err := exec.LookPath("arch-test")
	if err != nil {
		t.Skip("needs arch-test")
	}
	if got, want := runs32(t), exec.Command(archTest, "i386").Run() == nil; got != want {
		t.Errorf("32-bit programs run: %v; arch-test says %v", got, want)
	}
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, exit0ELF(elf.ELFCLASS32, elf.EM_H8_300), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(foreign).Run(); !errors.Is(err, syscall.ENOEXEC) {
		t.Errorf("a program of another machine: %v, want %v", err, syscall.ENOEXEC)
	}
}
