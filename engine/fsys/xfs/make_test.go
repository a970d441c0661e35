package xfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"b9.build/b9/engine/fsys/internal/fsystest"
	"b9.build/b9/engine/fsys/tree"
	"b9.build/b9/engine/size"
	"b9.build/b9/engine/tool"
)

// TestVersionsOfMkfs makes the same file system by an mkfs.xfs that behaves as others do
// by default: those before 5.19 refuse nrext64, later ones switch it on, and those since
// 6.10 have two more such options.
func TestVersionsOfMkfs(t *testing.T) {
	fsystest.Need(t, "mkfs.xfs")
	dir := t.TempDir()
	content := tree.FromFiles([]tree.File{{Path: "f", Data: []byte("x")}}, time.Time{})
	if err := Make(t.Context(), dir+"/want", Options{Size: Least}, content); err != nil {
		t.Fatal(err)
	}
	program, err := tool.Find("mkfs.xfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+"/bin:"+os.Getenv("PATH"))
	for version, behaves := range map[string]string{
		"5.13.0": `case "$*" in *nrext64*|*exchange*|*parent*) echo unknown option >&2; exit 1;; esac`,
		"6.5.0":  `case "$*" in *exchange*|*parent*) echo unknown option >&2; exit 1;; *nrext64=0*) ;; *) set -- -i nrext64=1 "$@";; esac`,
		"6.18.0": `case "$*" in *parent=0*exchange=0*) ;; *) set -- -i nrext64=1 "$@";; esac`,
		"odd":    "",
	} {
		script := fmt.Sprintf(`#!/bin/sh
[ "$1" != -V ] || { echo mkfs.xfs version %s; exit; }
%s
for a; do shift; set -- "$@" "$(printf %%s "$a" | sed 's/,exchange=0//; s/,parent=0//')"; done
exec %s "$@"
`, version, behaves, program)
		fsystest.Write(t, dir+"/bin/mkfs.xfs", script)
		if err := os.Chmod(filepath.Join(dir, "bin/mkfs.xfs"), 0o755); err != nil {
			t.Fatal(err)
		}
		got := dir + "/" + version
		if err := Make(t.Context(), got, Options{Size: Least}, content); err != nil {
			t.Errorf("version %s: %v", version, err)
			continue
		}
		fsystest.Run(t, "cmp", dir+"/want", got)
	}
}

// TestNamedSizeIsEnough: what an error says that is enough is not less than that.
func TestNamedSizeIsEnough(t *testing.T) {
	content := tree.FromFiles([]tree.File{{Path: "f", Source: fsystest.SparseFile(t, 1330<<20)}}, time.Time{})
	loaded, err := content.Load(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	w := &fill{ctx: t.Context(), o: Options{Size: Least}, tree: loaded}
	if err := w.plan(); err != nil {
		t.Fatal(err)
	}
	fsystest.WantError(t, w.tooSmall(), "the content does not fit into 300MiB: ")
	_, named, _ := strings.Cut(w.tooSmall().Error(), ": ")
	n, err := size.Parse(strings.TrimSuffix(named, " are enough"))
	if err != nil || int64(n) < w.needed() {
		t.Errorf("%q is named, %d bytes are needed: %v", named, w.needed(), err)
	}
}

// TestInodesOfOneGroup: more than one group can list are no matter of the size.
func TestInodesOfOneGroup(t *testing.T) {
	g := &group{free: []span{{10, 1 << 20}}, left: 1 << 20}
	_, _, err := g.inodeTree(nil, &geometry{}, magicIno, 3, make([]byte, 16*(inodesInLeaf*keysInNode+1)))
	fsystest.WantError(t, err, "its first group would have 8144704 inodes, and b9 writes trees of 8144640 at most")
}
