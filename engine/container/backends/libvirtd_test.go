package backends

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"b9.build/b9/engine/fsys/fuse"

	"b9.build/b9/engine/container"
)

// libvirtd is one that the tests start where none answers.
var libvirtd struct {
	once sync.Once
	dir  string
}

const libvirtdScript = "../../../testdata/libvirtd"

// startLibvirtd sees to it that a libvirtd answers, if that can be.
func startLibvirtd(t testing.TB) {
	libvirtd.once.Do(func() {
		dir, err := os.MkdirTemp("", "b9-libvirtd")
		if err != nil {
			t.Fatal(err)
		}
		libvirtd.dir = dir
		if out, err := exec.Command(libvirtdScript, "start", filepath.Join(dir, "d")).CombinedOutput(); err != nil {
			t.Logf("%v\n%s", err, out)
		}
	})
}

func stopLibvirtd() {
	if libvirtd.dir != "" {
		_ = exec.Command(libvirtdScript, "stop", filepath.Join(libvirtd.dir, "d")).Run()
		os.RemoveAll(libvirtd.dir)
	}
}

// openBackend opens a backend or skips the test, with the backend's own
// reason, where it cannot be used.
func openBackend(t testing.TB, name string) (container.Backend, container.Features) {
	t.Helper()
	if name == container.Libvirt {
		startLibvirtd(t)
	}
	b := openWith(t, name, container.Config{})
	f, err := b.Probe(context.Background())
	if err != nil {
		t.Skipf("backend %s: %v", name, err)
	}
	return b, f
}

// openWith opens a backend with a configuration of its own.
func openWith(t testing.TB, name string, c container.Config) container.Backend {
	t.Helper()
	c.RunDir, c.FileSystems = testRunDir(), fuse.FileSystems{}
	b, err := Open(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runDirVariable hands the directory on to processes that play a part in a test.
const runDirVariable = "B9_TEST_RUN_DIR"

// testRunDir is apart from that of real builds, and from that of tests that run beside
// these: when a directory is removed the kernel takes away what is mounted on it, in every
// namespace.
func testRunDir() string { return os.Getenv(runDirVariable) }

// makeRunDir makes it. Whoever calls the result removes it.
func makeRunDir() (remove func(), err error) {
	dir, err := os.MkdirTemp("/run", "b9-test-")
	if errors.Is(err, fs.ErrPermission) {
		dir, err = os.MkdirTemp("", "b9-test-") // nothing runs without root
	}
	if err != nil {
		return nil, err
	}
	return func() { os.RemoveAll(dir) }, os.Setenv(runDirVariable, dir)
}
