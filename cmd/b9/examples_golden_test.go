package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"b9.build/b9/cmd/b9/internal/output"
	"b9.build/b9/engine/tool"
)

var update = flag.Bool("update", false, "rewrite the digests of the examples' results")

// changing are the examples whose results are not the same every time: what is
// installed follows the archive (testdata/golden/examples_keys.txt has the keys of
// these), and what share() makes says when it was published, and by whom.
func changing() []string {
	return []string{"debian.star", "hello32.star", "machine.star", "appliance_base.star"}
}

// checkDigests holds what an example makes to the digests that it had before,
// on every machine: testdata/golden/examples.txt has a line for each result,
// and one for the version of the program whose bytes are in file systems.
func checkDigests(t *testing.T, example string, results []output.Result) {
	path := filepath.Join("..", "..", "testdata", "golden", "examples.txt")
	known := readDigests(t, path)
	if usesExt4 := []string{"appliance.star", "data.star", "disk.star"}; slices.Contains(usesExt4, example) {
		version := mke2fsVersion(t)
		if *update {
			known["mke2fs"] = version
		}
		if known["mke2fs"] != version {
			t.Skipf("the digests are those of mke2fs %s, and this machine has %s", known["mke2fs"], version)
		}
	}
	got := map[string]string{}
	for _, p := range results {
		got[p.Label+"["+p.Output+"]"] = p.Digest
	}
	want := maps.Clone(known)
	ofOthers := func(label, _ string) bool { return !strings.HasPrefix(label, "//examples/"+example+":") }
	maps.DeleteFunc(want, ofOthers)
	if *update {
		maps.DeleteFunc(known, func(label, digest string) bool { return !ofOthers(label, digest) })
		maps.Copy(known, got)
		writeDigests(t, path, known)
		return
	}
	if !maps.Equal(got, want) {
		t.Errorf("the results are\n%v\nand not\n%v\nas %s says (-update accepts them)", got, want, path)
	}
}

// readDigests reads lines of a name, a space and the rest.
func readDigests(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	known := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && name != "#" {
			known[name] = rest
		}
	}
	return known
}

func writeDigests(t *testing.T, path string, known map[string]string) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintln(&b, "# What the examples make: label, output and digest.\n# go test -run TestExamples -update ./cmd/b9 writes this file.")
	for _, name := range slices.Sorted(maps.Keys(known)) {
		fmt.Fprintln(&b, name, known[name])
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// mke2fsVersion is the version and date that mke2fs prints first.
func mke2fsVersion(t *testing.T) string {
	t.Helper()
	path, err := tool.Find("mke2fs")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "-V").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimPrefix(line, "mke2fs ")
}
