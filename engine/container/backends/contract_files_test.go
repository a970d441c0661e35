package backends

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

func testMounts(t *testing.T, w *world) {
	data, ro, rw := emptyImage(t), t.TempDir(), t.TempDir()
	write(t, filepath.Join(ro, "given"), []byte("from outside\n"), 0o644)
	r, image := w.script(t, `set -e
cat /share/ro/given
! touch /share/ro/x 2>/dev/null
echo made >/share/rw/made
echo data >/data/file
mkdir /data/sub/inner
echo root >/file
touch /scratch/file`)
	r.spec.Mounts = append(r.spec.Mounts,
		container.Mount{Source: rw, Target: "/data/sub", Kind: container.Dir},
		container.Mount{Source: data, Target: "/data/"},
		container.Mount{Source: ro, Target: "/share/ro", Kind: container.Dir, ReadOnly: true},
		container.Mount{Source: rw, Target: "/share/rw", Kind: container.Dir},
		container.Mount{Target: "/scratch", Kind: container.Tmpfs})
	if got := r.output(t); got != "from outside\n" {
		t.Errorf("output %q", got)
	}
	checkImageClean(t, image)
	checkImageClean(t, data)
	if got := catImage(t, data, "/file"); got != "data\n" {
		t.Errorf("the data image has %q", got)
	}
	if got := catImage(t, image, "/file"); got != "root\n" {
		t.Errorf("the root image has %q", got)
	}
	if got := listImage(t, data, "/"); !slices.Equal(got, []string{"lost+found", "file"}) {
		t.Errorf("the data image has %q", got)
	}
	if got, err := os.ReadFile(filepath.Join(rw, "made")); err != nil || string(got) != "made\n" {
		t.Errorf("the shared directory has %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(rw, "inner")); err != nil {
		t.Error(err)
	}
}

func testOffset(t *testing.T, w *world) {
	const at = 1 << 20
	disk := filepath.Join(t.TempDir(), "disk.img")
	data, err := os.ReadFile(w.root)
	if err != nil {
		t.Fatal(err)
	}
	write(t, disk, slices.Concat(bytes.Repeat([]byte{0xaa}, at), data, bytes.Repeat([]byte{0xbb}, at)), 0o600)
	r := script(w.backend, disk, "echo inside >/file; head -c 8M /dev/zero >/zeros; cat /file")
	r.spec.Mounts[0].Offset, r.spec.Mounts[0].Length = at, imageSize
	if got := r.output(t); got != "inside\n" {
		t.Errorf("output %q", got)
	}
	after, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(data)+2*at ||
		!bytes.Equal(after[:at], bytes.Repeat([]byte{0xaa}, at)) ||
		!bytes.Equal(after[at+imageSize:], bytes.Repeat([]byte{0xbb}, at)) {
		t.Error("bytes around the file system changed")
	}
	inner := filepath.Join(t.TempDir(), "inner.img")
	write(t, inner, after[at:at+imageSize], 0o600)
	checkImageClean(t, inner)
	if got := catImage(t, inner, "/file"); got != "inside\n" {
		t.Errorf("the image has %q", got)
	}
}

func testReadOnlyRoot(t *testing.T, w *world) {
	image := imageOf(t, busyboxTree(t, "proc", "sys", "dev", "data"))
	before := fileDigest(t, image)
	r := script(w.backend, image, "touch /x 2>&1; echo $?; echo data >/data/file")
	r.spec.Mounts[0].ReadOnly = true
	data := emptyImage(t)
	r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: data, Target: "/data"})
	if got := r.output(t); !strings.Contains(got, "Read-only") || !strings.HasSuffix(got, "1\n") {
		t.Errorf("output %q", got)
	}
	if fileDigest(t, image) != before {
		t.Error("the read-only image changed")
	}
	missing := script(w.backend, image, "touch /nowhere/x && rmdir /home/ann 2>&1; echo $?")
	missing.spec.Mounts[0].ReadOnly = true
	missing.spec.Mounts = append(missing.spec.Mounts, container.Mount{Target: "/nowhere", Kind: container.Tmpfs})
	if got := missing.output(t); !strings.Contains(got, "Read-only") || !strings.HasSuffix(got, "1\n") {
		t.Errorf("output %q", got)
	}
	if fileDigest(t, image) != before {
		t.Error("the read-only image changed")
	}
}

func fileDigest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

func testTraces(t *testing.T, w *world) {
	image := imageOf(t, busyboxTree(t))
	r := script(w.backend, image, "touch /kept/mine; true")
	before := treeOf(t, image)
	r.spec.Mounts = append(r.spec.Mounts,
		container.Mount{Target: "/a/b/c", Kind: container.Tmpfs},
		container.Mount{Target: "/tmp", Kind: container.Tmpfs},
		container.Mount{Target: "/kept/inner", Kind: container.Tmpfs})
	r.output(t)
	checkImageClean(t, image)
	after := treeOf(t, image)
	if want := append(before, "/kept/mine"); !slices.Equal(after, want) {
		t.Errorf("the image has %q, want %q", after, want)
	}
}

// treeOf lists the image's directories that a run could leave something in.
func treeOf(t *testing.T, image string) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{"/", "/etc", "/tmp", "/kept"} {
		for _, name := range listImage(t, image, dir) {
			if name != "kept" {
				all = append(all, filepath.Join(dir, name))
			}
		}
	}
	return all
}

func testHostFiles(t *testing.T, w *world) {
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Fatal("this host has no /etc/resolv.conf")
	}
	tree := busyboxTree(t)
	write(t, filepath.Join(tree, "etc/hosts"), []byte("10.0.0.1 own\n"), 0o600)
	if err := os.Symlink("../run/resolve/stub.conf", filepath.Join(tree, "etc/resolv.conf")); err != nil {
		t.Fatal(err)
	}
	image := imageOf(t, tree)
	r := script(w.backend, image, "cat /etc/resolv.conf; grep -c a-host /etc/hosts")
	r.spec.Hostname, r.spec.Network = "a-host", container.NetworkHost
	if got := r.output(t); !strings.HasSuffix(got, string(host)+"1\n") {
		t.Errorf("got %q, want the host's %q", got, host)
	}
	checkImageClean(t, image)
	if got := catImage(t, image, "/etc/hosts"); got != "10.0.0.1 own\n" {
		t.Errorf("/etc/hosts became %q", got)
	}
	if names := listImage(t, image, "/"); slices.Contains(names, "run") {
		t.Errorf("the image has %q", names)
	}
	if got := listImage(t, image, "/etc"); !slices.Contains(got, "resolv.conf") {
		t.Errorf("the link is gone: %q", got)
	}
}

func testFullDisk(t *testing.T, w *world) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		// The loop device lets go of the image a moment after the run.
		eventually(t, "the image's file system can be unmounted", func() bool { return unix.Unmount(dir, 0) == nil })
	}()
	image := filepath.Join(dir, "small.img")
	command(t, "cp", "--sparse=always", w.root, image)
	r := script(w.backend, image, "dd if=/dev/urandom of=/big bs=1M count=12 2>/dev/null; exit 0")
	r.refused(t, "could not be written")
}

func testDirectoryRoot(t *testing.T, w *world) {
	tree := busyboxTree(t)
	before, err := os.ReadDir(tree)
	if err != nil {
		t.Fatal(err)
	}
	r := script(w.backend, tree, "cat /etc/passwd | wc -l")
	r.spec.Mounts[0].Kind = container.Dir
	if got := strings.TrimSpace(r.output(t)); got != "2" {
		t.Errorf("output %q", got)
	}
	after, err := os.ReadDir(tree)
	if err != nil || len(after) != len(before) {
		t.Errorf("the directory has %v, had %v: %v", after, before, err)
	}
}
