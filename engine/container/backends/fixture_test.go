package backends

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"b9.build/b9/engine/container"
)

func TestMain(m *testing.M) {
	Main()
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playRole(role))
	}
	remove, err := makeRunDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	stopLibvirtd()
	remove()
	os.Exit(code)
}

// needTool skips a test that cannot run without a tool.
func needTool(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("no %s here", name)
		}
	}
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

const imageSize = 24 << 20

// makeImage makes an ext4 image at path with the content of dir.
func makeImage(t testing.TB, path, dir string) {
	t.Helper()
	needTool(t, "mke2fs", "e2fsck")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(imageSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	command(t, "mke2fs", "-q", "-t", "ext4", "-F", "-d", dir, path)
}

// busyboxTree is a small root file system: busybox, a user in two groups, and
// the directories dirs beside the usual ones.
func busyboxTree(t testing.TB, dirs ...string) string {
	t.Helper()
	needTool(t, "busybox")
	dir := t.TempDir()
	makeDirs(t, dir, append(dirs, "bin", "etc", "tmp", "home/ann")...)
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "bin/busybox"), data, 0o755)
	for _, applet := range strings.Fields(command(t, "busybox", "--list")) {
		if applet != "busybox" {
			if err := os.Symlink("busybox", filepath.Join(dir, "bin", applet)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"), 0o644)
	write(t, filepath.Join(dir, "etc/group"), []byte("root:x:0:\nann:x:1000:\naudio:x:29:ann\n"), 0o644)
	return dir
}

func makeDirs(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func write(t testing.TB, path string, data []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
}

// rootImage is a fresh image with busybox, which can be used read-only.
func rootImage(t testing.TB) string {
	t.Helper()
	return imageOf(t, busyboxTree(t, "proc", "sys", "dev"))
}

// imageOf is a fresh image of a tree.
func imageOf(t testing.TB, tree string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.img")
	makeImage(t, path, tree)
	return path
}

// copyImage is a copy of an image that the caller may change.
func copyImage(t testing.TB, image string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.img")
	command(t, "cp", "--sparse=always", "--reflink=auto", image, path)
	return path
}

// emptyImage is a fresh image with nothing but lost+found.
func emptyImage(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data.img")
	makeImage(t, path, t.TempDir())
	return path
}

// checkImageClean asserts that an image was unmounted in order.
func checkImageClean(t testing.TB, path string) {
	t.Helper()
	out := command(t, "e2fsck", "-fn", path)
	if strings.Contains(out, "recover") {
		t.Errorf("%s was not unmounted cleanly:\n%s", path, out)
	}
}

// listImage lists a directory of an image without mounting it.
func listImage(t testing.TB, image, dir string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(command(t, "debugfs", "-R", "ls -p "+dir, image)) {
		// /inode/mode/uid/gid/name/size/
		if parts := strings.Split(line, "/"); len(parts) > 5 && parts[5] != "." && parts[5] != ".." {
			names = append(names, parts[5])
		}
	}
	return names
}

// catImage reads a file of an image without mounting it.
func catImage(t testing.TB, image, file string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", "cat "+file, image).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// run is one run of a backend under test.
type run struct {
	backend container.Backend
	spec    container.Spec
	io      container.IO
	out     bytes.Buffer
	err     bytes.Buffer
}

// runCount makes ids unique.
var runCount atomic.Int64

func newID() string { return fmt.Sprintf("t%d-%d", os.Getpid(), runCount.Add(1)) }

// script is a run of a shell script on a root image.
func script(b container.Backend, image, text string) *run {
	r := &run{backend: b}
	r.spec = container.Spec{
		ID:     newID(),
		Mounts: []container.Mount{{Source: image, Target: "/"}},
		Argv:   []string{"/bin/sh", "-c", text},
		Env:    []string{"PATH=/bin"},
	}
	r.io = container.IO{Stdout: &r.out, Stderr: &r.err}
	return r
}

func (r *run) do(t testing.TB) container.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := r.backend.Run(ctx, r.spec, r.io)
	if err != nil {
		t.Fatalf("run: %v\noutput: %s%s", err, r.out.String(), r.err.String())
	}
	return res
}

// output runs to status 0 and returns what was written to standard output.
func (r *run) output(t testing.TB) string {
	t.Helper()
	res := r.do(t)
	if res.Reason != container.Exited || res.Code != 0 {
		t.Fatalf("%s: output: %s%s", res, r.out.String(), r.err.String())
	}
	return r.out.String()
}
