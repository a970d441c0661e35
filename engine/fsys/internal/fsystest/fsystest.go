package fsystest

import (
	"archive/tar"
	"bytes"
	"context"
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

	"b9.build/b9/engine/tool"
)

// Need skips a test when a program of the host is missing.
func Need(t testing.TB, tools ...string) {
	t.Helper()
	for _, name := range tools {
		if _, err := tool.Find(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
}

func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// Run executes an oracle and fails the test when it is unhappy.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	if p, err := tool.Find(name); err == nil {
		name = p
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func Sum(t testing.TB, path string) string {
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

func SameBytes(t testing.TB, a, b string) {
	t.Helper()
	if Sum(t, a) != Sum(t, b) {
		out, _ := exec.Command("cmp", a, b).CombinedOutput()
		t.Fatalf("%s and %s differ: %s", a, b, out)
	}
}

func CtxOf(t testing.TB) context.Context { return t.Context() }

// MountImage mounts a file system read-only for the time of the test.
func MountImage(t testing.TB, image string) string {
	t.Helper()
	NeedRoot(t)
	Need(t, "mount", "umount")
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	MountLoop(t, "loop,ro", image, dir)
	t.Cleanup(func() { Run(t, "umount", dir) })
	return dir
}

// MountLoop mounts an image, again when another process took the loop device
// that mount had chosen.
func MountLoop(t testing.TB, options, image, dir string) {
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

// UnmountLoop ends a mount, and waits until the kernel has let go of the image:
// somebody who made a mount namespace meanwhile has the mount, too, until that
// namespace ends.
func UnmountLoop(t testing.TB, image, dir string) {
	t.Helper()
	Run(t, "umount", dir)
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

// TarOf is everything about a directory, as tar tells it, a line a file.
func TarOf(t testing.TB, dir string) string {
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

// FirstDifference of two texts, a line of each.
func FirstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return "\n- " + x[i] + "\n+ " + y[i]
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

func Write(t testing.TB, path string, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func WantError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Fatalf("error %q does not say %q", err, p)
		}
	}
}

func Gone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Fatalf("%s was left behind", path)
	}
}
