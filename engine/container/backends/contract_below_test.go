package backends

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/engine/container"
)

// testMountsBelow shares a directory of the host that has mounts of the host below it.
func testMountsBelow(t *testing.T, w *world) {
	share := t.TempDir()
	for _, dir := range []string{"a", "a/b"} {
		at := filepath.Join(share, dir)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(at, unix.MNT_DETACH)
		write(t, filepath.Join(at, "file"), []byte(dir), 0o644)
	}
	for _, capabilities := range [][]string{nil, {"sys_admin"}} {
		r := w.peek("cat /share/a/file /share/a/b/file")
		r.spec.Capabilities = capabilities
		r.spec.Mounts = append(r.spec.Mounts, container.Mount{Source: share, Target: "/share", Kind: container.Dir})
		if got := r.output(t); got != "aa/b" {
			t.Errorf("capabilities %q: got %q", capabilities, got)
		}
	}
}
