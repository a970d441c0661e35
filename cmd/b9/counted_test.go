package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// bytesRead is what this process, and those that it has waited for, have read so far, from
// the disk or from memory.
func bytesRead(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(text), "rchar: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		t.Fatalf("/proc/self/io: %v\n%s", err, text)
	}
	return n
}

// largeBuild has an image of a kind of file system with so many MiB of data, and steps that
// have a secret and write a line to it, or nothing. Most of the image is free, so that it is
// kept as a difference and not made whole meanwhile.
func largeBuild(t *testing.T, w *crashSite, kind string, mib int) {
	t.Helper()
	image := fmt.Sprintf(`image(fs = %q, size = "%dM")`, kind, mib*3)
	if kind == "xfs" || kind == "btrfs" {
		image = strconv.Quote(kind + ".img")
		makeImage(t, filepath.Join(w.dir, kind+".img"), kind, int64(mib*3)<<20)
	}
	w.write("token", "a secret of some length\n")
	w.write("rootfs.star", rootfsText())
	w.write("B9BUILD.star", fmt.Sprintf(`
load(":rootfs.star", "root")
base = root(size = "32M")
secrets = {"token": secret(file = "token")}
large = lxc_exec(name = "large", images = {"/": base, "/data": %s}, network = "none", place = [],
    script = ["for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/data/$i bs=64k count=%d; done"])
line = lxc_exec(name = "line", images = {"/": base, "/data": large["/data"]}, network = "none", place = ["/data"],
    secrets = secrets, script = ["echo line > /data/line"])
none = lxc_exec(name = "none", images = {"/": base, "/data": large["/data"]}, network = "none", place = ["/data"],
    secrets = secrets, script = ["cat /data/1 | head -c 100 | wc -c"])
overlay(line["/data"], differences_from = large["/data"], name = "update")
`, image, mib*2))
}

// result is where the image of a step is placed.
func result(t *testing.T, w *crashSite, step string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, "b9-out", step+"*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("results of %s: %v, %v", step, found, err)
	}
	if info, err := os.Stat(found[0]); err != nil || !info.IsDir() {
		return found[0]
	}
	return filepath.Join(found[0], "data.raw")
}

// TestAStepReadsWhatItWrote: a step with a secret that writes one line to an image full of
// data reads little of it, whatever the file system; what holds its time, its key, its secrets
// and whether it has changed anything. With links the results are compared and told apart
// in an overlay without being read, too.
func TestAStepReadsWhatItWrote(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	mib, kinds := 120, []string{"vfat", "xfs"}
	if os.Getenv(longTests) != "" {
		mib, kinds = 1024, []string{"ext4", "vfat", "xfs", "btrfs"}
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			w := newCrashSite(t, "root")
			largeBuild(t, w, kind, mib)
			w.run("build", "-c", "results.place=none", "//:large")
			const little = 24 << 20 // the program, the root image, tables
			counted := func(args ...string) {
				t.Helper()
				before := bytesRead(t)
				w.run(args...)
				if n := bytesRead(t) - before; n > little {
					t.Errorf("b9 %q has read %d MiB, of an image with %d MiB of data", args, n>>20, mib)
				} else {
					t.Logf("b9 %q: %d KiB read", args, n>>10)
				}
			}
			counted("build", "-c", "results.place=none", "//:line")
			counted("build", "-c", "results.place=none", "//:none")
			w.run("build", "-c", "results.place=link", "//:line", "//:none", "//:large")
			counted("build", "-c", "results.place=link", "//:update")
			none, line := result(t, w, "none"), result(t, w, "line")
			counted("image", "compare", none, none)
			before := bytesRead(t)
			cmd, out := w.command("image", "compare", none, line)
			if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !bytes.HasPrefix(out.Bytes(), []byte("different at offset")) {
				t.Errorf("compare: %v\n%s", err, out)
			}
			if n := bytesRead(t) - before; n > little {
				t.Errorf("to compare read %d MiB", n>>20)
			}
		})
	}
}
