package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"b9.build/b9/cmd/b9/internal/output"
)

// What a step gives out does not tell whether its images were copied for it or are kept as
// what was written to them.

// copied and kept are Program.ForkAbove for the two.
const (
	copied = -1
	kept   = 1
)

// differences counts the objects of a store that are kept as what differs.
func differences(t *testing.T, store string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(store, "differences"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// shares reports whether files in dir can share their blocks, where nothing is kept as
// a difference.
func shares(t *testing.T, dir string) bool {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.CreateTemp(dir, "shares")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	if _, err := files[0].Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	return unix.IoctlFileClone(int(files[1].Fd()), int(files[0].Fd())) == nil
}

// TestExamplesWithDifferences builds every example with forks that are kept as what is
// written to them, in a store of its own, and with copies. Of the examples that install a
// Debian one stands for all, whose step with the script runs once more, with copies, on the
// same base: what it takes out of its images is the same.
func TestExamplesWithDifferences(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "*.star"))
	if err != nil || len(files) < 5 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			switch debian := slices.Contains(slow(), name); {
			case debian && os.Getenv(longTests) == "":
				t.Skipf("installs a Debian: set %s=1, as `make test` does", longTests)
			case name == "debian.star":
				compareRerun(t, name)
			case !debian && name != "appliance_base.star": // which says when it was published
				compareForks(t, name)
			}
		})
	}
}

// compareForks compares what an example makes with differences and with copies.
func compareForks(t *testing.T, example string) {
	var got [2][]string
	for i, above := range []int64{kept, copied} {
		dir, store := checkout(t), t.TempDir()
		build := []string{"-C", dir, "--store", store, "build"}
		if example == "appliance.star" { // uses what the other one publishes
			b9With(t, above, append(build, "examples/appliance_base.star")...)
		}
		got[i] = digestsOf(b9With(t, above, append(build, "examples/"+example)...).Results)
	}
	if !slices.Equal(got[0], got[1]) || len(got[0]) == 0 {
		t.Errorf("with differences the results are\n%v\nand with copies\n%v", got[0], got[1])
	}
}

// compareRerun compares what the script of an example makes, which runs with differences and
// again with copies. Its images depend on the clock.
func compareRerun(t *testing.T, example string) {
	dir, store := checkout(t), t.TempDir()
	build := func(above int64) []string {
		results := b9With(t, above, "-C", dir, "--store", store, "build", "examples/"+example).Results
		return digestsOf(slices.DeleteFunc(results, func(r output.Result) bool {
			return strings.HasSuffix(r.Label, ".qcow2") || strings.HasSuffix(r.Label, ".vmdk")
		}))
	}
	first := build(kept)
	path := filepath.Join(dir, "examples", example)
	text, err := os.ReadFile(path)
	if err != nil || bytes.Count(text, []byte("script = [")) != 1 {
		t.Fatalf("%s has no script, or several: %v", path, err)
	}
	writeFile(t, path, strings.Replace(string(text), "script = [", `script = ["true",`, 1))
	if again := build(copied); !slices.Equal(first, again) || len(first) == 0 {
		t.Errorf("with differences the results are\n%v\nand with copies\n%v", first, again)
	}
}

func digestsOf(results []output.Result) (list []string) {
	for _, r := range results {
		list = append(list, fmt.Sprintf("%s[%s] %s", r.Label, r.Output, r.Digest))
	}
	slices.Sort(list)
	return list
}

// randomScript writes commands that change what is in directories.
func randomScript(r *rand.Rand, dirs []string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh -e\nset +x\n")
	file := func() string { return fmt.Sprintf("%s/%c%d", dirs[r.IntN(len(dirs))], "ab"[r.IntN(2)], r.IntN(6)) }
	for range 10 + r.IntN(20) {
		f, g := file(), file()
		fill := fmt.Sprintf("dd if=/bin/busybox bs=%d skip=%d count=%d", 1+r.IntN(30_000), r.IntN(20), 1+r.IntN(20))
		switch r.IntN(9) {
		default:
			fmt.Fprintf(&b, "%s of=%s\n", fill, f)
		case 0:
			fmt.Fprintf(&b, "%s of=%s seek=%d conv=notrunc\n", fill, f, r.IntN(30))
		case 1:
			fmt.Fprintf(&b, "rm -rf %s %s.d\n", f, f)
		case 2:
			fmt.Fprintf(&b, "mkdir -p %s.d; for i in 1 2 3 4 5 6 7; do echo $i %d > %s.d/$i; done\n", f, r.IntN(1000), f)
		case 3:
			fmt.Fprintf(&b, "test ! -f %s || test %s = %s || mv %s %s\n", f, f, g, f, g)
		case 4:
			fmt.Fprintf(&b, "test ! -f %s || cat %s %s > %s.x\n", f, f, f, g)
		case 5:
			fmt.Fprintf(&b, "dd if=/dev/zero of=%s bs=%d count=%d; sync\n", f, 1+r.IntN(70_000), 1+r.IntN(20))
		}
	}
	return b.String()
}

// randomBuild is a build file: steps with random scripts, each on what the one before has
// made, and a last one that tells what is in the images. The root is laid out anew, so
// that its bytes are those of its content.
func randomBuild(t *testing.T, dir string, r *rand.Rand, more []string) string {
	t.Helper()
	names := []string{"/data", "/v"}
	images := `"/": on%[1]d["/"], "/v": on%[1]d["/v"]`
	first := `"/": root(size = "96M"), "/v": image(fs = "vfat", size = "40M")`
	for _, kind := range more {
		names = append(names, "/"+kind)
		images += fmt.Sprintf(`, "/%s": on%%[1]d["/%[1]s"]`, kind)
		first += fmt.Sprintf(`, "/%s": "%[1]s.img"`, kind)
		makeImage(t, filepath.Join(dir, kind+".img"), kind, 320<<20)
	}
	b := fmt.Sprintf("load(\"//:rootfs.star\", \"root\")\non0 = {%s}\n", first)
	for i := range 3 {
		script := fmt.Sprintf("step%d.sh", i)
		text := randomScript(r, names)
		if i == 0 {
			text = strings.Replace(text, "set +x\n", "set +x\nmkdir /data\n", 1)
		}
		writeFile(t, filepath.Join(dir, script), text)
		b += fmt.Sprintf("on%d = lxc_exec(images = {%s}, network = \"none\", script = %q)\n", i+1, fmt.Sprintf(images, i), script)
	}
	b += fmt.Sprintf(`
lxc_exec(name = "told", images = {%s}, shares = {"/out": writable()}, network = "none",
    script = ["busybox find %s | busybox sort | while read f; do test -d $f && echo $f || busybox sha256sum $f; done > /out/list"])
lxc_exec(name = "anew", images = {"/": on3["/"]}, network = "none", canonical = True, script = ["echo > /made"])
group(name = "both", targets = [":told", ":anew"])
`, fmt.Sprintf(images, 3), strings.Join(names, " "))
	return b
}

// makeImage makes an empty file system with a program of the host.
func makeImage(t *testing.T, path, kind string, size int64) {
	t.Helper()
	writeFile(t, path, "")
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs."+kind, "-q", path).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.%s: %v\n%s", kind, err, out)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestRandomScriptsWithDifferences runs random scripts, one after the other on the same
// images, with forks that are kept as what is written to them, and with copies: the files in
// the images are the same in the end, and so are the bytes of the one that is laid out anew.
func TestRandomScriptsWithDifferences(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	rounds, more := 2, []string(nil)
	if os.Getenv(longTests) != "" {
		rounds, more = 4, []string{"xfs", "btrfs"}
	}
	r := moments(t)
	for range rounds {
		dir := t.TempDir()
		busybox, err := os.ReadFile("/bin/busybox")
		if err != nil {
			t.Skipf("no /bin/busybox (Debian package busybox-static): %v", err)
		}
		writeFile(t, filepath.Join(dir, "busybox"), string(busybox))
		writeFile(t, filepath.Join(dir, "rootfs.star"), rootfsText())
		writeFile(t, filepath.Join(dir, "b9.toml"), "")
		text := randomBuild(t, dir, r, more)
		writeFile(t, filepath.Join(dir, "B9BUILD.star"), text)
		var got [2][]string
		for i, above := range []int64{kept, copied} {
			store := t.TempDir()
			results := b9With(t, above, "-C", dir, "--store", store, "build", "//:both").Results
			told := slices.DeleteFunc(results, func(r output.Result) bool { return strings.HasSuffix(r.Label, ":told") && r.Output != "/out" })
			got[i] = digestsOf(told)
			if n := differences(t, store); above == kept && n == 0 && !shares(t, store) || above == copied && n > 0 {
				t.Errorf("ForkAbove %d: %d results are kept as differences", above, n)
			}
		}
		if !slices.Equal(got[0], got[1]) || len(got[0]) != 2 {
			t.Fatalf("with differences\n%v\nwith copies\n%v\n%s", got[0], got[1], text)
		}
	}
}
