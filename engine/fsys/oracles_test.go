package fsys

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
)

func sum(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sameBytes(t testing.TB, a, b string) {
	t.Helper()
	if sum(t, a) != sum(t, b) {
		out, _ := exec.Command("cmp", a, b).CombinedOutput()
		t.Fatalf("%s and %s differ: %s", a, b, out)
	}
}

func fileSize(t testing.TB, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// mountImage mounts a file system read-only for the time of the test.
func mountImage(t testing.TB, image string) string {
	t.Helper()
	fsystest.NeedRoot(t)
	fsystest.Need(t, "mount", "umount")
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	mountLoop(t, "loop,ro", image, dir)
	t.Cleanup(func() { fsystest.Run(t, "umount", dir) })
	return dir
}

// mountLoop mounts an image, again when another process took the loop device
// that mount had chosen.
func mountLoop(t testing.TB, options, image, dir string) {
	t.Helper()
	for try := 0; ; try++ {
		out, err := exec.Command("mount", "-o", options, image, dir).CombinedOutput()
		if err == nil {
			return
		}
		if try == 200 {
			t.Fatalf("mount: %v: %s", err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// unmountLoop ends a mount, and waits until the kernel has let go of the image:
// somebody who made a mount namespace meanwhile has the mount, too, until that
// namespace ends.
func unmountLoop(t testing.TB, image, dir string) {
	t.Helper()
	fsystest.Run(t, "umount", dir)
	for try := 0; ; try++ {
		out, err := exec.Command("losetup", "--noheadings", "--list", "--associated", image).CombinedOutput()
		if err != nil {
			t.Fatalf("losetup: %v: %s", err, out)
		}
		if len(bytes.TrimSpace(out)) == 0 {
			return
		}
		if try == 600 {
			t.Fatalf("%s stays attached: %s", image, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// tarOf is everything about a directory, as tar tells it, a line a file.
func tarOf(t testing.TB, dir string) string {
	t.Helper()
	cmd := exec.Command("tar", "-C", dir, "--format=posix", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*",
		"--acls", "--exclude=./lost+found", "-c", ".")
	var msg bytes.Buffer
	cmd.Stderr = &msg
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	text := listTar(t, out)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("tar: %v: %s", err, msg.String())
	}
	return text
}

func listTar(t testing.TB, r io.Reader) string {
	var text strings.Builder
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			io.Copy(io.Discard, r)
			return text.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.New()
		io.Copy(sum, tr)
		fmt.Fprintf(&text, "%q %c %o %d:%d %d %d.%d %q %d:%d %x", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.ModTime.Unix(),
			h.ModTime.Nanosecond(), h.Linkname, h.Devmajor, h.Devminor, sum.Sum(nil)[:8])
		for _, k := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if strings.HasPrefix(k, "SCHILY.") {
				fmt.Fprintf(&text, " %s=%q", k, h.PAXRecords[k])
			}
		}
		text.WriteByte('\n')
	}
}

// firstDifference of two texts, a line of each.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "\n- " + x[i] + "\n+ " + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// compareBlkid holds Probe against blkid.
func compareBlkid(t *testing.T, img string, info tree.Info) {
	t.Helper()
	out := fsystest.Run(t, "blkid", "-p", "-o", "export", img)
	want := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if k, v, ok := strings.Cut(line, "="); ok {
			want[k] = strings.ReplaceAll(v, `\ `, " ")
		}
	}
	if info.Type != want["TYPE"] || info.UUID != want["UUID"] {
		t.Errorf("probe says %+v, blkid %v", info, want)
	}
	if label := want["LABEL"]; info.Label != label {
		t.Errorf("probe says label %q, blkid %q", info.Label, label)
	}
}
