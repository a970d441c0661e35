package helper

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// The kernel says "no such file" of a program whose interpreter is missing, and of
// a script whose first line ends in a carriage return, and "exec format error" of a
// program for another machine. What it needs is looked for before it is started: the
// interpreter of a #! line, as execve(2) reads it, the machine that an ELF file is for,
// and the loader that it names.

const (
	headSize   = 256 // bytes of a #! line that the kernel reads: BINPRM_BUF_SIZE
	maxScripts = 4   // interpreters that are scripts themselves, as in the kernel
)

// checkProgram reports what keeps the command from being executed. What can't be
// told here, the kernel tells.
func (r *rootfs) checkProgram(spec *container.Spec) error {
	command := spec.Argv[0]
	name, ok := r.lookUp(spec, command)
	var run []string
	for len(run) < maxScripts {
		if !ok {
			return nil
		}
		run = append(run, name)
		next, err := r.needs(spec, name)
		if err == nil && slices.Contains(run, next) {
			err = fmt.Errorf("its interpreter %s, which the #! line names, is run by itself, or by this script: name a program", next)
		}
		if err != nil {
			return &container.StartError{Command: command, Cause: err.Error()}
		}
		name, ok = next, next != ""
	}
	return nil
}

// lookUp finds a command as execvp(3) does.
func (r *rootfs) lookUp(spec *container.Spec, command string) (string, bool) {
	if strings.Contains(command, "/") {
		if !path.IsAbs(command) {
			command = path.Join(spec.Dir, command)
		}
		return command, r.exists(command)
	}
	for _, v := range spec.Env {
		list, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(list, ":") {
			if name := path.Join("/", dir, command); r.exists(name) {
				return name, true
			}
		}
	}
	return "", false
}

// needs is the program that the one of that name is run by, if any.
func (r *rootfs) needs(spec *container.Spec, name string) (string, error) {
	f, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return "", nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		return "", nil // the kernel says what is wrong with it
	}
	head := make([]byte, headSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", nil
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return "", r.checkELF(f, spec.Arch)
	}
	if err := container.CheckScript(head, false); err != nil {
		return "", err
	}
	if !bytes.HasPrefix(head, []byte("#!")) {
		return "", nil
	}
	return r.interpreter(spec, head)
}

// interpreter is what a #! line names, which has to be there. What env(1) is to look
// up has to be there, too.
func (r *rootfs) interpreter(spec *container.Spec, head []byte) (string, error) {
	line, _, _ := strings.Cut(string(head[2:]), "\n")
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", errors.New("its #! line names no interpreter: write one such as #!/bin/sh")
	}
	name := words[0]
	if !path.IsAbs(name) {
		return "", nil
	}
	if !r.exists(name) {
		return "", fmt.Errorf("its interpreter %s, which the #! line names, is not in the image: install it in an earlier step, or name another", name)
	}
	if what := r.noProgram(name); what != "" {
		return "", fmt.Errorf("its interpreter %s, which the #! line names, is %s: name a program", name, what)
	}
	if path.Base(name) != "env" || len(words) != 2 || strings.ContainsAny(words[1], "-=") {
		return name, nil
	}
	found, ok := r.lookUp(spec, words[1])
	if !ok {
		return "", fmt.Errorf("its interpreter %s, which the #! line has %s look up, is not in the image: install it in an earlier step, or name another", words[1], name)
	}
	return found, nil
}

// noProgram says what keeps a file that is there from being executed; "" for nothing.
func (r *rootfs) noProgram(name string) string {
	f, err := r.open(name, unix.O_PATH)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		return "a directory"
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "a file that can't be executed"
	}
	return ""
}

// checkELF reports an ELF file for another kind of machine, or whose loader is missing:
// one for another C library.
func (r *rootfs) checkELF(f *os.File, arch string) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return nil // the kernel says what is wrong with it
	}
	if err := container.CheckMachine(context.Background(), e, arch); err != nil {
		return err
	}
	for _, p := range e.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > unix.PathMax {
			continue
		}
		data, err := io.ReadAll(p.Open())
		if err != nil {
			return nil
		}
		loader := strings.TrimRight(string(data), "\x00")
		if path.IsAbs(loader) && !r.exists(loader) {
			return fmt.Errorf("it needs the loader %s (%s), which is not in the image: install the C library that it was made for", loader, e.Machine)
		}
	}
	return nil
}
