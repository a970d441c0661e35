// Package hosttool runs the programs of the host that make, check and resize file
// systems. It hides how a program reaches an image whose name could mean something
// to it, its environment and language, its process group, and the banners in what
// it prints. It knows no file system, and finds programs by engine/tool.
//
//	Command        what a program gets besides its arguments; Run and Lines run it
//	ImagePath      how the program names the image; ExtraPath, the next file
package hosttool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"b9.build/b9/engine/tool"
)

// keptOutput bounds what is kept of a program's chatter, in bytes.
const keptOutput = 64 << 10

// tailBuffer keeps the last keptOutput bytes written to it, and calls full when
// there were more than most in all.
type tailBuffer struct {
	b          []byte
	seen, most int64 // most 0: any number
	full       func()
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	if t.seen += int64(len(p)); t.most > 0 && t.seen > t.most {
		t.full()
	}
	t.b = append(t.b, p...)
	if over := len(t.b) - keptOutput; over > 0 {
		t.b = t.b[over:]
	}
	return len(p), nil
}

// ImagePath is how a program reaches the image, ExtraPath how it reaches the first
// of the extra files: through an inherited descriptor, so that no character of the
// real path means anything to it ("?" begins options in e2fsprogs, "-" an argument).
const (
	ImagePath = "/proc/self/fd/3"
	ExtraPath = "/proc/self/fd/4"
)

// Command is what a program gets besides its arguments: the image as ImagePath,
// further files from ExtraPath on, and variables on top of the environment.
type Command struct {
	Image *os.File
	Extra []*os.File
	Env   []string
	Most  int64 // bytes that a sane run prints at most; 0: any number
}

// Run is Lines for what is printed as one text, joined by "; ".
func (c Command) Run(ctx context.Context, name string, args ...string) (string, error) {
	lines, err := c.Lines(ctx, name, args...)
	return strings.Join(lines, "; "), err
}

// Lines runs a program to its end and returns what it printed, in which the path of
// the image reads "the image": where it lies is the caller's business. Cancelling
// ctx kills the program's whole process group, and so does printing more than
// c.Most bytes. A non-zero exit is a [*tool.Failure].
func (c Command) Lines(ctx context.Context, name string, args ...string) ([]string, error) {
	path, err := tool.Find(name)
	if err != nil {
		return nil, missing(name)
	}
	inner, stop := context.WithCancel(ctx)
	defer stop()
	cmd := exec.CommandContext(inner, path, args...)
	cmd.Env = append(environment(), c.Env...)
	cmd.ExtraFiles = append([]*os.File{c.Image}, c.Extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	out := tailBuffer{most: c.Most, full: stop}
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	lines := linesOf(strings.ReplaceAll(string(out.b), ImagePath, "the image"))
	if ctx.Err() != nil {
		return lines, context.Cause(ctx)
	}
	if inner.Err() != nil {
		return lines, &tool.Failure{Program: name, Code: -1, Output: fmt.Sprintf("it printed more than %d bytes and was stopped", c.Most)}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return lines, &tool.Failure{Program: name, Code: exit.ExitCode(), Output: strings.Join(lines, "\n")}
	}
	if err != nil {
		return lines, fmt.Errorf("%s: %w", name, err)
	}
	return lines, nil
}

func missing(name string) error {
	return fmt.Errorf("%s is not installed: install the Debian package %s", name, tool.Package(name))
}

// environment is the environment of the host without what changes e2fsprogs'
// output or its language.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "LANG" || name == "LANGUAGE" ||
			strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "MKE2FS_") || strings.HasPrefix(name, "E2FS")
	})
	return append(env, "LC_ALL=C")
}

// linesOf are the lines of a program's output without white space around them, empty
// ones, and banners (version and date).
func linesOf(out string) (lines []string) {
	for line := range strings.Lines(out) {
		if s := strings.TrimSpace(line); s != "" && !isBanner(s) {
			lines = append(lines, s)
		}
	}
	return lines
}

func isBanner(s string) bool {
	for _, name := range []string{"mke2fs ", "resize2fs ", "e2fsck ", "fsck.fat "} {
		rest, ok := strings.CutPrefix(s, name)
		if ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return true
		}
	}
	return false
}
