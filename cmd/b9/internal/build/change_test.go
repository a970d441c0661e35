package build

import (
	"os"
	"path/filepath"
	"testing"

	"b9.build/b9/builtins"
	"b9.build/b9/builtins/lang"
	"b9.build/b9/engine"
)

// TestChangesAreTold names what changed as the build file has it.
func TestChangesAreTold(t *testing.T) {
	root := t.TempDir()
	text := `base = image(name = "base", size = "1M")
lxc_exec(name = "x", images = {"/": base},
    script = "run.sh",
    env = {"A": "1"},
    memory = "512M", cpus = 0.5)
boot_files(name = "boot", image = base, cmdline = "", initrd = False)
disk(name = "d", size = "8M", partitions = [part(size = "1M", type = "linux")])
`
	for name, text := range map[string]string{"b9.toml": "", "B9BUILD.star": text, "run.sh": "#!/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ws, err := lang.Open(t.Context(), lang.Config{Root: root, Dir: root, Operations: builtins.Operations(builtins.Settings{})})
	if err != nil {
		t.Fatal(err)
	}
	g, err := ws.Resolve(t.Context(), []string{"//..."})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]*engine.Node{}
	for _, target := range g.Targets {
		nodes[target.Title] = target.Refs[0].Node
	}
	tell := newTeller(root)
	for _, c := range []struct {
		of   string
		c    engine.Change
		want string
	}{
		{"//:x", engine.Change{Part: "Memory", Old: "536870912", New: "1073741824"}, "    memory at B9BUILD.star:5: 512M -> 1G\n"},
		{"//:x", engine.Change{Part: "CPUs", Old: "0x1p-01", New: "0x1p+01"}, "    cpus at B9BUILD.star:5: 0.5 -> 2\n"},
		{"//:x", engine.Change{Part: `Env["A"]`, Old: "1", New: "b"}, "    environment variable A (env) at B9BUILD.star:4: 1 -> \"b\"\n"},
		{"//:x", engine.Change{Part: "IgnoreErrors", Old: "false", New: "true"}, "    ignore_errors at B9BUILD.star:2: False -> True\n"},
		{"//:x", engine.Change{Part: "tool mke2fs", Old: "1.46", New: "1.47"}, "    program mke2fs: 1.46 -> 1.47\n"},
		{"//:x", engine.Change{Part: "time", New: "86400000000000"}, "    environment variable SOURCE_DATE_EPOCH: (none) -> 86400\n"},
		{"//:x", engine.Change{Part: "kind", Old: "lxc_exec/3", New: "lxc_exec/4"}, "    b9, which makes it otherwise now: lxc_exec/3 -> lxc_exec/4\n"},
		{"//:x", engine.Change{Part: "input script", Old: "file b3:0123456789abcdef", New: "file b3:fedcba9876543210"}, "    file run.sh (script): content 0123456789ab -> content fedcba987654\n"},
		{"//:x", engine.Change{Part: "input script", Old: "file b3:0123456789abcdef", New: "file b3:fedcba9876543210", OldText: "a\nb\n", NewText: "a\nc\n"},
			"    file run.sh (script):\n      @@ -1,2 +1,2 @@\n       a\n      -b\n      +c\n"},
		{"//:x", engine.Change{Part: "input image /", Old: "file b3:0123456789abcdef", New: "file b3:fedcba9876543210"}, "    //:base (image /): content 0123456789ab -> content fedcba987654\n"},
		{"//:boot", engine.Change{Part: "NoInitrd", Old: "false", New: "true"}, "    initrd at B9BUILD.star:6: True -> False\n"},
		{"//:d", engine.Change{Part: "Parts[0].Size", Old: "1048576", New: "2097152"}, "    partitions[0].size at B9BUILD.star:7: 1M -> 2M\n"},
	} {
		if nodes[c.of] == nil {
			t.Fatalf("no node of %s", c.of)
		}
		if got := changeText(tell.change(nodes[c.of], c.c)); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", c.c.Part, got, c.want)
		}
	}
	list := tell.changes(nodes["//:x"], []engine.Change{{Part: "Args", Old: "1", New: "2"}, {Part: "Args[1]", New: "x"}})
	if len(list) != 1 || list[0].What != "args[1]" {
		t.Errorf("%v: an element of a list was added, and that is all", list)
	}
}
