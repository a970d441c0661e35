package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOnErrorShell builds on a terminal what fails: the error is printed, a shell opens in
// the step as it failed, and the status is that of the build.
func TestOnErrorShell(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to mount images")
	}
	busybox, err := exec.LookPath("/bin/busybox")
	if err != nil {
		t.Fatal("busybox is not installed")
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	dir, store := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"b9.toml": "", "busybox": string(program), "rootfs.star": rootfsText(),
		"B9BUILD.star": `load(":rootfs.star", "root")
lxc_exec(name = "fails", images = {"/": root()}, script = ["echo half > /state", "exit 7"])
resize(image(fs = "ext4", size = "16M"), "64K", name = "outside")
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	start := func(target string) (*exec.Cmd, *screen) {
		person, terminal := newTerminal(t)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-C", dir, "--store", store, "build", "--on-error=shell", target)
		cmd.Args[0], cmd.Path = "b9", filepath.Join(t.TempDir(), "b9") // testscript's main runs what it is called
		if err := os.Symlink(must(filepath.Abs(os.Args[0])), cmd.Path); err != nil {
			t.Fatal(err)
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &screen{t: t, from: person}
	}
	cmd, s := start("//:fails")
	s.wait("the script ended with exit status 7")
	s.wait("as it failed at ")
	s.repeat("echo state is $(cat /state)\n", "state is half")
	fmt.Fprint(s.from, "exit 5\n")
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v\n%s", cmd.ProcessState, s.all)
	}
	if n := strings.Count(s.all, "the script ended with exit status 7"); n != 1 {
		t.Errorf("the error is printed %d times: %s", n, s.all)
	}
	cmd, s = start("//:outside") // which no shell can enter
	s.wait("resize(): ")
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("%v\n%s", cmd.ProcessState, s.all)
	}
}

func must(path string, err error) string {
	if err != nil {
		panic(err)
	}
	return path
}
